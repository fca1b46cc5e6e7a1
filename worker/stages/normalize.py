"""Normalize: the clips of a recording, each with its statistics and its windows."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidJob, NotAudio
from storage.wire.channels import EACH
from storage.wire.parts import SegmentAsked
from worker.audio.lanes import require_channel
from worker.audio.waveform import require_one_frame
from worker.clip import (
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    Clip,
    Cut,
    Pcm,
    Recording,
    View,
    Views,
    Waveform,
    num_frames,
    unit,
    windows,
)

_EPSILON = 1e-5
_ROW_SAMPLES = 8_000
_CHUNK_SAMPLES = 8 * _ROW_SAMPLES  # as float64 they stay in the cache, and int16 add up to int32
_KEPT_SAMPLES = 32 * _CHUNK_SAMPLES  # of a mapped file, before it is told that they were read
_SILENCE = 10 ** (-70 / 20)  # A-law has no zero: idle, it is at -72 dBFS, and overshoots
_BEYOND_SECONDS = 0.5  # how far past the end a segment may go
_LATEST_SECONDS = 1e9  # nobody's recording goes so far: what is said to is as good as infinite
_OF_THREAD = threading.local()
_MAX_VARIANCE = float(np.finfo(np.float32).max)


class Normalize:
    """Layer norm over each clip, as far as it can go before the samples are on a tape.

    A clip is a whole recording, or channel of it, or a segment. Thread-safe. Source: FunASR 1.4,
    `layer_norm(waveform, waveform.shape)`: no affine, biased variance, eps 1e-5; ours in float64.
    """

    def __init__(self, window_seconds: float, *, max_audio_seconds: float = math.inf) -> None:
        """Cut clips into windows of at most `window_seconds`; segments together have a bound."""
        self._window_seconds = window_seconds
        self._max_audio_seconds = max_audio_seconds

    def __call__(self, recording: Recording) -> Views:
        """What is classified of a recording. Raises AudioTooShort, NotAudio, InvalidJob."""
        return _Cutting(recording, self.clip, self._max_audio_seconds).views()

    def clip(self, samples: Pcm, forget: Callable[[], object] | None = None) -> Clip:
        """Clip of int16 or float32 (num_samples,); for `forget` see Waveform.

        Raises AudioTooShort, NotAudio.
        """
        require_one_frame(len(samples))
        step = unit(samples)
        moments = _moments_of_integers if samples.dtype == np.int16 else _moments_of_floats
        mean, variance = moments(samples, forget)
        mean, variance = step * mean, step**2 * variance  # a power of two: nothing is rounded
        # Never let one clip's NaN onto a tape; the bound is where the reference overflows.
        if not variance <= _MAX_VARIANCE:
            raise NotAudio(
                "a sample is not a finite number, or far beyond [-1, 1]: the file holds no audio; "
                "export it again"
            )
        return Clip(
            samples=samples,
            mean=mean,
            scale=1 / math.sqrt(variance + _EPSILON),
            windows=windows(num_frames(len(samples)), self._window_seconds),
            # Only what is quiet on average can have no loud sample.
            silent=mean**2 + variance <= _SILENCE**2 and step * _peak(samples, forget) <= _SILENCE,
            forget=forget,
        )


class _Cutting:
    """One recording on its way to its clips: none is made twice, whoever asks for it."""

    def __init__(
        self, recording: Recording, clip: Callable[..., Clip], max_audio_seconds: float
    ) -> None:
        self._recording = recording
        self._parts = recording.parts
        self._clip = clip
        self._max_audio_seconds = max_audio_seconds
        self._made: dict[tuple[int, int, int], Clip] = {}

    def views(self) -> Views:
        """All that was asked for. Raises AudioTooShort, NotAudio, InvalidJob."""
        recording = self._recording
        self._require_sound(self._parts.segments or ())
        each = self._parts.channel == EACH
        return Views(
            top=self._view(recording.whole, None, 0),
            channels=tuple(
                self._view(lane, channel, 1 + channel)
                for channel, lane in enumerate(recording.channels if each else ())
            ),
            duration_seconds=recording.whole.duration_seconds,
            warnings=recording.whole.warnings,
            parts=self._parts,
            renditions=recording.renditions,
        )

    def _view(self, lane: Waveform, channel: int | None, number: int) -> View:
        speaks = self._recording.speech
        cuts = self._turns(lane, speaks[number]) if speaks else self._cuts(lane, channel)
        whole = None if cuts else self._made_of(lane, 0, len(lane.samples))
        return View(whole, cuts, channel)

    def _cuts(self, lane: Waveform, channel: int | None) -> tuple[Cut, ...] | None:
        """The segments of a channel, or of the whole recording; None where none were asked for."""
        if self._parts.segments is None:
            return None
        return tuple(
            self._cut(lane if one.channel is None else self._lane(one.channel), one)
            for one in self._parts.segments
            if channel is None or one.channel in (None, channel)
        )

    def _turns(self, lane: Waveform, turns: Sequence[tuple[int, int]]) -> tuple[Cut, ...]:
        """The turns that were found, but for what is less than a frame."""
        return tuple(
            Cut(start / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ, self._made_of(lane, start, stop))
            for start, stop in turns
            if stop - start >= FRAME_SAMPLES
        )

    def _cut(self, lane: Waveform, asked: SegmentAsked) -> Cut:
        start, stop = self._samples(asked)
        end_seconds = min(asked.end_s, lane.duration_seconds)
        return Cut(asked.start_s, end_seconds, self._made_of(lane, start, stop), asked)

    def _samples(self, asked: SegmentAsked) -> tuple[int, int]:
        """A segment is samples [round(16000 start), round(16000 end)), as far as there are some."""
        length = len(self._recording.whole.samples)
        start_s, end_s = (min(seconds, _LATEST_SECONDS) for seconds in (asked.start_s, asked.end_s))
        return round(SAMPLE_RATE_HZ * start_s), min(round(SAMPLE_RATE_HZ * end_s), length)

    def _lane(self, channel: int) -> Waveform:
        channels = self._recording.channels
        is_of_job = not channels and str(channel) == self._parts.channel
        return self._recording.whole if is_of_job else channels[channel]

    def _made_of(self, lane: Waveform, start: int, stop: int) -> Clip:
        key = id(lane), start, stop
        if key not in self._made:
            self._made[key] = self._clip(lane.samples[start:stop], lane.forget)
        return self._made[key]

    def _require_sound(self, segments: Sequence[SegmentAsked]) -> None:
        """Raise InvalidJob for a segment that is not in the recording, or for too many.

        They may overlap, and so be more than the recording: there is an end to that.
        """
        field = "segments" if self._parts.segments_from is None else "segments_from"
        num_samples = 0
        for number, one in enumerate(segments):
            about = f"field {field!r}: item {number}, {one.start_s:g} to {one.end_s:g} s"
            num_samples += self._require_inside(one, about)
            if one.channel is not None and str(one.channel) != self._parts.channel:
                require_channel(one.channel, len(self._recording.channels), about)
        if num_samples > self._max_audio_seconds * SAMPLE_RATE_HZ:
            raise InvalidJob(
                f"field {field!r}: they are {num_samples / SAMPLE_RATE_HZ:.0f} s of audio "
                f"together, and at most {self._max_audio_seconds:g} s are allowed: send several "
                "jobs"
            )

    def _require_inside(self, one: SegmentAsked, about: str) -> int:
        """How many samples there are of it."""
        whole = self._recording.whole
        start, stop = self._samples(one)
        if one.end_s > whole.duration_seconds + _BEYOND_SECONDS:
            raise InvalidJob(
                f"{about}: ends after the recording, which is {whole.duration_seconds:.3f} s long"
            )
        if stop - start < FRAME_SAMPLES:
            raise InvalidJob(
                f"{about}: has less than 25 ms of the recording, which is "
                f"{whole.duration_seconds:.3f} s long: one frame needs as much"
            )
        return stop - start


def _moments_of_integers(samples: Pcm, forget: Callable[[], object] | None) -> tuple[float, float]:
    """Mean and biased variance of int16: sums of integers, none of them rounded."""
    total = squares = 0
    for part in _parts(samples, forget):
        total += int(part.sum(dtype=np.int32))  # below 2^31: see _CHUNK_SAMPLES
        squares += int(_square_sum(_wide(part)))  # below 2^53
    count = len(samples)
    return total / count, (count * squares - total**2) / count**2


def _moments_of_floats(samples: Pcm, forget: Callable[[], object] | None) -> tuple[float, float]:
    """Mean and biased variance in float64, in one pass.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    sample variances": what is summed up are distances from each chunk's own mean, so that a large
    offset costs no precision.
    """
    count, mean, squares = 0, 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # judged by whoever asked
        for part in _parts(samples, forget):
            chunk = _wide(part)
            own = float(chunk.sum()) / len(chunk)
            chunk -= own
            apart, together = own - mean, count + len(chunk)
            squares += _square_sum(chunk) + apart**2 * count * len(chunk) / together
            mean += apart * len(chunk) / together
            count = together
    return mean, squares / count


def _parts(samples: Pcm, forget: Callable[[], object] | None) -> Iterator[Pcm]:
    """The samples, some at a time."""
    for start in range(0, len(samples), _CHUNK_SAMPLES):
        if forget is not None and start % _KEPT_SAMPLES == 0:
            forget()
        yield samples[start : start + _CHUNK_SAMPLES]


def _wide(part: Pcm) -> NDArray[np.float64]:
    """The samples in float64, in memory of this thread that the next call overwrites."""
    memory: NDArray[np.float64] | None = getattr(_OF_THREAD, "memory", None)
    if memory is None:
        memory = _OF_THREAD.memory = np.empty(_CHUNK_SAMPLES)
    chunk = memory[: len(part)]
    chunk[:] = part
    return chunk


def _square_sum(values: NDArray[np.float64]) -> float:
    """Sum of the squares.

    By short rows: long ones a library's threads share, and wait for each other for longer than one
    of them would take.
    """
    whole = len(values) // _ROW_SAMPLES * _ROW_SAMPLES
    rows, rest = values[:whole].reshape(-1, _ROW_SAMPLES), values[whole:]
    squares = float(np.vecdot(rows, rows).sum())
    return squares + float(np.vecdot(rest, rest)) if len(rest) else squares


def _peak(samples: Pcm, forget: Callable[[], object] | None) -> float:
    """The largest distance from 0."""
    return max(max(float(part.max()), -float(part.min())) for part in _parts(samples, forget))
