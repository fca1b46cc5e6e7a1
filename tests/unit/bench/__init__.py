"""The measurements: what they count, what they say, and where they refuse."""
