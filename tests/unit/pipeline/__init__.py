"""Tests of worker/pipeline."""
