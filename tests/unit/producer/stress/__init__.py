"""Tests of producer.stress."""
