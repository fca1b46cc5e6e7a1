"""Tests of worker/delivery."""
