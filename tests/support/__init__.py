"""What the tests share: servers that they start themselves, stubs, and audio files."""
