"""What the stages hand on: `Fetched` to decode, `Recording` to normalize, `Views` to infer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from storage.objects.blob import Blob
from storage.wire.messages import Want
from storage.wire.parts import WHOLE, Parts, SegmentAsked
from worker.warning import AudioWarning

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 400  # what one frame sees
FRAME_STRIDE = 320  # samples between the beginnings of neighbouring frames

SEGMENT_BYTES = 8_192  # of a segment: half of it is the large model's embedding, 4 bytes x 1024

Samples = NDArray[np.float32]
Pcm = NDArray[np.int16 | np.float32]  # int16 stands for value / 32768
_INT16_UNIT = 1 / 32_768
_FLOAT32_BYTES = 4


def unit(samples: Pcm) -> float:
    """What a sample of 1 stands for; the source of int16 is FunASR 1.4, load_audio."""
    return _INT16_UNIT if samples.dtype == np.int16 else 1.0


def floats(samples: Pcm) -> Samples:
    """What the samples stand for, as float32, which holds every int16 exactly."""
    if samples.dtype == np.float32:
        return samples.view(np.float32)
    return np.multiply(samples, np.float32(_INT16_UNIT), dtype=np.float32)


def num_frames(num_samples: int) -> int:
    """Frames the network gives for `num_samples` samples; 0 for fewer than one frame."""
    return max(0, (num_samples - FRAME_SAMPLES) // FRAME_STRIDE + 1)


def frame_samples(frames: int) -> int:
    """Samples that `frames` neighbouring frames see."""
    return FRAME_STRIDE * (frames - 1) + FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class Waveform:
    """Decoded audio, mono, nominally in [-1, 1]: int16 or float32 (num_samples,).

    It is at 16 kHz, or at its own rate until a device has resampled it. The samples are read-only
    and may be a mapped file, so that hours of audio cost no memory: whoever has read many says so
    by `forget`, which is cheap, and may be called by any thread.
    """

    samples: Pcm
    warnings: tuple[AudioWarning, ...] = ()  # in their order
    forget: Callable[[], object] | None = None
    sample_rate_hz: int = SAMPLE_RATE_HZ

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    def floats(self) -> Samples:
        """The samples as float32: copied where they are integers, which are a window at most."""
        return floats(self.samples)


@dataclass(slots=True)
class Renditions:
    """What is made of a recording to be looked at and listened to, where that is `wanted`.

    Whoever decodes fills it in. `peaks` are in audiowaveform's form, and `preview` is an MP3 file;
    of long audio its `preview_bytes` lie behind the samples, in the file that holds those.
    """

    wanted: frozenset[Want]
    peaks: bytes = b""
    preview: bytes | memoryview = b""
    preview_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """Memory that it holds; the rest is in a file."""
        return len(self.peaks) + (0 if self.preview_bytes else len(self.preview))


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object, and what is asked of the recording in it."""

    blob: Blob
    parts: Parts = WHOLE
    renditions: Renditions | None = None

    def close(self) -> None:
        """Close the object."""
        self.blob.close()


@dataclass(frozen=True, slots=True)
class Recording:
    """What was decoded: `whole` is what counts at the top, `channels` each by itself if asked for.

    All of them are of one length. `speech`, where it was looked for, holds the samples [start,
    stop) of each turn: of the whole, and then of each channel.
    """

    whole: Waveform
    channels: tuple[Waveform, ...] = ()
    parts: Parts = WHOLE
    speech: tuple[Sequence[tuple[int, int]], ...] = ()
    renditions: Renditions | None = None

    def held_bytes(self, most_decoded_bytes: int) -> int:
        """Memory that it holds until its result is told; of samples, the rest is in a file.

        What is not resampled yet holds as much again as that will make of it.
        """
        lanes = {id(lane): lane.samples.nbytes for lane in (self.whole, *self.channels)}
        if self.whole.sample_rate_hz != SAMPLE_RATE_HZ:
            own_bytes = sum(lanes.values())
            made_bytes = math.ceil(self.whole.duration_seconds * SAMPLE_RATE_HZ) * _FLOAT32_BYTES
            return own_bytes + made_bytes
        segments = len(self.parts.segments or ()) + sum(map(len, self.speech))
        rendered = self.renditions.held_bytes if self.renditions else 0
        return min(sum(lanes.values()), most_decoded_bytes) + SEGMENT_BYTES * segments + rendered


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
    """Samples, the statistics of all of them, and the windows they are classified in.

    The statistics are of what the samples stand for: see `Pcm`.
    """

    samples: Pcm
    mean: float
    scale: float  # 1 / sqrt(variance + 1e-5)
    windows: tuple[Window, ...]
    silent: bool = False  # no sample above -70 dBFS
    forget: Callable[[], object] | None = None  # see Waveform

    @property
    def unit(self) -> float:
        """What a sample of 1 stands for."""
        return unit(self.samples)

    def of(self, window: Window) -> Pcm:
        """The window's samples as they are: (frame_samples(frames),)."""
        first = FRAME_STRIDE * window.start
        return self.samples[first : first + frame_samples(window.frames)]


@dataclass(frozen=True, slots=True)
class Cut:
    """A segment of a recording, seconds [start, end), and the clip that it is."""

    start_seconds: float
    end_seconds: float
    clip: Clip
    asked: SegmentAsked | None = None  # None for one that was found


@dataclass(frozen=True, slots=True)
class View:
    """A channel, or the mix: one clip, or the segments of it that were asked for.

    Of a recording without any segment there is the whole of it.
    """

    whole: Clip | None
    cuts: tuple[Cut, ...] | None = None
    channel: int | None = None

    @property
    def clips(self) -> tuple[Clip, ...]:
        """All that is classified of it, in its order."""
        return (self.whole,) if self.whole else tuple(cut.clip for cut in self.cuts or ())


@dataclass(frozen=True, slots=True)
class Views:
    """What is classified of a recording: `top`, and where asked for each channel."""

    top: View
    channels: tuple[View, ...]
    duration_seconds: float
    warnings: tuple[AudioWarning, ...]
    parts: Parts
    renditions: Renditions | None = None

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Every clip once, in order."""
        views = (self.top, *self.channels)
        return tuple({id(clip): clip for view in views for clip in view.clips}.values())


def windows(frames: int, window_seconds: float) -> tuple[Window, ...]:
    """Cut `frames` frames into near-equal windows, none longer than `window_seconds`."""
    longest = num_frames(int(window_seconds * SAMPLE_RATE_HZ))
    count = math.ceil(frames / longest)
    edges = [frames * i // count for i in range(count + 1)]
    return tuple(Window(a, b) for a, b in pairwise(edges))
