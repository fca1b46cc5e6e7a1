"""Attacks on a running worker, with what each left of it: see docs/security.md."""
