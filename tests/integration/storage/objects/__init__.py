"""Tests of storage/objects."""
