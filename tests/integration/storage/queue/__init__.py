"""Tests of storage/queue."""
