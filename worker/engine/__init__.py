"""Tapes on a device: packed, run, and what to make of a failure."""
