"""From encoded bytes to waveforms: a direct WAV reader, and FFmpeg's libraries in processes."""
