"""Tests of storage/redis."""
