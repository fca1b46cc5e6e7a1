"""Tests of worker/doctor."""
