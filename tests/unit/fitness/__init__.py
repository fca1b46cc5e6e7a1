"""Tests of worker/fitness."""
