"""Tests of producer.stress on real servers."""
