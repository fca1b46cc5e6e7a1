"""The stages, put together."""
