"""Tests of whole programs, as users run them."""
