"""From encoded bytes to waveforms, in processes or by a WAV reader; and where speech is in them."""
