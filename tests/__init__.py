"""Tests; each package mirrors a kind: unit, integration, e2e, gpu."""
