"""The chaos harness: real processes, faults drawn from a seed, invariants checked at the end."""
