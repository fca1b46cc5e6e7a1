"""Tests of producer.control."""
