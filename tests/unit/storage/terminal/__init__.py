"""Tests of what reaches a screen."""
