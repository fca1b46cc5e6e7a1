"""From decoded samples behind a descriptor to a `Waveform`, without reading them."""

import mmap
import os

import numpy as np

from storage.errors import AudioTooShort, Internal
from worker.clip import FRAME_SAMPLES, SAMPLE_RATE_HZ, Waveform

_SAMPLE_BYTES = 4


def map_waveform(fd: int, num_samples: int, *, truncated: bool) -> Waveform:
    """Map the float32 (num_samples,) in the file `fd`, which stays the caller's to close.

    The map lives as long as the samples do; nothing has to be cleaned up after it. Raises
    AudioTooShort.
    """
    require_one_frame(num_samples)
    if os.fstat(fd).st_size != num_samples * _SAMPLE_BYTES:
        # Reading past the end of a mapped file would kill the worker.
        raise Internal("the decoder's answer does not fit its output; the job is tried again")
    pcm = mmap.mmap(fd, num_samples * _SAMPLE_BYTES, access=mmap.ACCESS_READ)
    return Waveform(np.frombuffer(pcm, np.float32), truncated=truncated)  # (num_samples,)


def require_one_frame(num_samples: int) -> None:
    """Raise AudioTooShort unless the network can make at least one frame of it."""
    if num_samples < FRAME_SAMPLES:
        raise AudioTooShort(
            f"the audio has {num_samples} samples at {SAMPLE_RATE_HZ} Hz and one frame needs "
            f"{FRAME_SAMPLES}: send at least 25 ms"
        )
