"""The timeline of a recording, in a browser."""
