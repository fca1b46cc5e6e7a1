"""What the stages hand on: `Waveform` from decode to normalize, `Clip` from normalize to infer."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from worker.warning import AudioWarning

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 400  # what one frame sees
FRAME_STRIDE = 320  # samples between the beginnings of neighbouring frames

Samples = NDArray[np.float32]


def num_frames(num_samples: int) -> int:
    """Frames the network gives for `num_samples` samples; 0 for fewer than one frame."""
    return max(0, (num_samples - FRAME_SAMPLES) // FRAME_STRIDE + 1)


def frame_samples(frames: int) -> int:
    """Samples that `frames` neighbouring frames see."""
    return FRAME_STRIDE * (frames - 1) + FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class Waveform:
    """Decoded audio: float32 (num_samples,), 16 kHz mono, nominally in [-1, 1].

    The samples are read-only and may be a mapped file, so that hours of audio cost no memory.
    """

    samples: Samples
    warnings: tuple[AudioWarning, ...] = ()  # in their order

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Window:
    """A run of frames [start, stop) of a clip; what one piece of tape holds."""

    start: int
    stop: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.stop - self.start

    @property
    def start_seconds(self) -> float:
        """Where its first frame begins."""
        return self.start * FRAME_STRIDE / SAMPLE_RATE_HZ

    @property
    def stop_seconds(self) -> float:
        """Where the frame after its last one would begin."""
        return self.stop * FRAME_STRIDE / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Clip:
    """A waveform, the statistics of the whole of it, and the windows it is classified in."""

    waveform: Waveform
    mean: float
    scale: float  # 1 / sqrt(variance + 1e-5)
    windows: tuple[Window, ...]

    def write(self, window: Window, out: Samples) -> None:
        """Write the window's normalized samples to `out`, float32 (frame_samples(frames),)."""
        first = FRAME_STRIDE * window.start
        samples = self.waveform.samples[first : first + frame_samples(window.frames)]
        np.subtract(samples, np.float32(self.mean), out=out)
        np.multiply(out, np.float32(self.scale), out=out)


def windows(frames: int, window_seconds: float) -> tuple[Window, ...]:
    """Cut `frames` frames into near-equal windows, none longer than `window_seconds`."""
    longest = num_frames(int(window_seconds * SAMPLE_RATE_HZ))
    count = math.ceil(frames / longest)
    edges = [frames * i // count for i in range(count + 1)]
    return tuple(Window(a, b) for a, b in pairwise(edges))
