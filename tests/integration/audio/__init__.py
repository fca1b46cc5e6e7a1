"""Tests of worker/audio."""
