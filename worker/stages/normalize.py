"""The third stage: the statistics of a whole waveform, and the windows it is classified in."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from storage.errors import NotAudio
from worker.audio.waveform import require_one_frame
from worker.clip import Clip, Samples, Waveform, num_frames, windows

_EPSILON = 1e-5
_CHUNK_SAMPLES = 65_536  # as float64 they stay in the cache, however long the clip
_MAX_VARIANCE = float(np.finfo(np.float32).max)


class Normalize:
    """Layer norm over the whole clip, as far as it can go before the samples are on a tape.

    Thread-safe. Source: FunASR 1.4, `layer_norm(waveform, waveform.shape)`: no affine, biased
    variance, eps 1e-5; ours in float64.
    """

    def __init__(self, window_seconds: float) -> None:
        """Cut clips into windows of at most `window_seconds`."""
        self._window_seconds = window_seconds

    def __call__(self, waveform: Waveform) -> Clip:
        """Clip of the waveform. Raises AudioTooShort, NotAudio."""
        samples = waveform.samples
        require_one_frame(len(samples))
        with np.errstate(invalid="ignore", over="ignore"):  # judged below
            mean = sum(chunk.sum() for chunk in _chunks(samples)) / len(samples)
            variance = sum(_squares(chunk, mean) for chunk in _chunks(samples)) / len(samples)
        # Never let one clip's NaN onto a tape; the bound is where the reference overflows.
        if not variance <= _MAX_VARIANCE:
            raise NotAudio(
                "a sample is not a finite number, or far beyond [-1, 1]: the file holds no audio; "
                "export it again"
            )
        return Clip(
            waveform=waveform,
            mean=float(mean),
            scale=1 / math.sqrt(variance + _EPSILON),
            windows=windows(num_frames(len(samples)), self._window_seconds),
        )


def _chunks(samples: Samples) -> Iterator[NDArray[np.float64]]:
    """The samples in float64, some at a time; each chunk is overwritten by the next."""
    chunk = np.empty(min(len(samples), _CHUNK_SAMPLES))
    for start in range(0, len(samples), _CHUNK_SAMPLES):
        part = samples[start : start + _CHUNK_SAMPLES]
        chunk[: len(part)] = part
        yield chunk[: len(part)]


def _squares(chunk: NDArray[np.float64], mean: float) -> float:
    """Sum of the squared distances from the mean; overwrites the chunk."""
    chunk -= mean
    return float(np.square(chunk, out=chunk).sum())
