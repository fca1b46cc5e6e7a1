"""Faults and leases in real time: run after the other tests, two at a time."""
