"""Faults and leases in real time: run alone, after the other tests."""
