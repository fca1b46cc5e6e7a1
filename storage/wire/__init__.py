"""The wire contract: what jobs may ask for, and how everything is called; see docs/wire.md."""
