"""Tests of modules against real servers and processes."""
