"""From decoded samples behind a descriptor to a `Waveform`, without reading them."""

import mmap

import numpy as np

from storage.errors import AudioTooShort
from worker.audio.pcm import SAMPLE_BYTES
from worker.clip import FRAME_SAMPLES, SAMPLE_RATE_HZ, Waveform
from worker.warning import AudioWarning


def map_waveform(fd: int, num_samples: int, warnings: tuple[AudioWarning, ...]) -> Waveform:
    """Map the float32 (num_samples,) in the file `fd`, which stays the caller's to close.

    Reading past the end of a map would kill the worker: nobody else may be able to cut the file
    short, so it is sealed memory or a file that only the worker has open. The map lives as long as
    the samples do; nothing has to be cleaned up after it. Raises AudioTooShort.
    """
    require_one_frame(num_samples)
    pcm = mmap.mmap(fd, num_samples * SAMPLE_BYTES, access=mmap.ACCESS_READ)
    return Waveform(np.frombuffer(pcm, np.float32), warnings)  # (num_samples,)


def require_one_frame(num_samples: int) -> None:
    """Raise AudioTooShort unless the network can make at least one frame of it."""
    if num_samples < FRAME_SAMPLES:
        raise AudioTooShort(
            f"the audio has {num_samples} samples at {SAMPLE_RATE_HZ} Hz and one frame needs "
            f"{FRAME_SAMPLES}: send at least 25 ms"
        )
