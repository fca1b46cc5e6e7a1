"""From speech probabilities to turns: what is said from one pause to the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.clip import SAMPLE_RATE_HZ

CHUNK_SAMPLES = 512  # what one probability is said of
SHORTEST_MAX_SECONDS = 1.0
SHORT_TO_LONG = 4  # or a cut would have no choice
_HYSTERESIS = 0.15
_LEAST_RELEASE = 0.01
_QUIET_CHUNKS = 5  # 0.16 s: longer than the closure of a p or t, shorter than a pause


class Turn(NamedTuple):
    """Somebody speaks from `start_sample` until before `stop_sample`."""

    start_sample: int
    stop_sample: int


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """What counts as a turn. Source: the defaults of silero-vad 6.2, but for gap and padding."""

    threshold: float = 0.5  # probability from which on somebody speaks, until 0.15 below it
    min_turn_seconds: float = 0.25  # shorter turns are dropped, when gaps are closed
    merge_gap_seconds: float = 0.3  # shorter gaps do not part turns
    pad_seconds: float = 0.1  # added on both sides; where there is less between turns, half of it
    max_turn_seconds: float = 30.0  # longer turns, padding counted in, are cut

    def __post_init__(self) -> None:
        """Raise ValueError where a cut would have no place."""
        if self.max_turn_seconds < max(SHORTEST_MAX_SECONDS, SHORT_TO_LONG * self.min_turn_seconds):
            raise ValueError(
                f"the longest turn must be at least {SHORTEST_MAX_SECONDS:g} s, and "
                f"{SHORT_TO_LONG} times as long as the shortest: {self.max_turn_seconds:g} s"
            )

    @property
    def release(self) -> float:
        """The probability below which somebody has stopped."""
        return max(self.threshold - _HYSTERESIS, _LEAST_RELEASE)


def find_turns(
    probability: NDArray[np.float32],
    power: NDArray[np.float32],
    num_samples: int,
    options: SpeechOptions,
) -> list[Turn]:
    """Turns in `num_samples` samples at 16 kHz, in order, without overlap.

    `probability` of speech, [0, 1], and `power`, the mean square, are those of each chunk of 512
    samples: (num_chunks,), the last chunk maybe short. Gaps are closed first; then short turns are
    dropped, the others padded, and long ones cut: in the second half of what is allowed, at the
    quietest 0.16 s. A cut leaves nothing between its turns, and at least the least length behind.
    """
    spoken = _runs(_speaks(probability, options), num_samples)
    merged = _merged(spoken, _samples(options.merge_gap_seconds))
    least = _samples(options.min_turn_seconds)
    kept = [turn for turn in merged if turn.stop_sample - turn.start_sample >= least]
    padded = _padded(kept, _samples(options.pad_seconds), num_samples)
    return [part for turn in padded for part in _cut(turn, power, options)]


def _speaks(probability: NDArray[np.float32], options: SpeechOptions) -> NDArray[np.bool_]:
    """Whether somebody speaks in a chunk: between the two thresholds as in the one before."""
    speaks = probability >= options.threshold  # (num_chunks,)
    decided = speaks | (probability < options.release)
    last_decided = np.maximum.accumulate(np.where(decided, np.arange(len(decided)), -1))
    return speaks[last_decided] & (last_decided >= 0)


def _runs(speaks: NDArray[np.bool_], num_samples: int) -> list[Turn]:
    """A turn for each run of chunks with speech."""
    edges = np.flatnonzero(np.diff(speaks, prepend=False, append=False)) * CHUNK_SAMPLES
    edges = np.minimum(edges, num_samples)
    return [Turn(*run) for run in edges.reshape(-1, 2).tolist()]


def _merged(turns: list[Turn], gap: int) -> list[Turn]:
    """Without the gaps of fewer than `gap` samples."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and turn.start_sample - merged[-1].stop_sample < gap:
            turn = Turn(merged.pop().start_sample, turn.stop_sample)  # noqa: PLW2901 (one turn)
        merged.append(turn)
    return merged


def _padded(turns: list[Turn], pad: int, num_samples: int) -> list[Turn]:
    """With `pad` samples more on both sides; neighbours meet halfway, and none leaves the clip."""
    meet = [(a.stop_sample + b.start_sample) // 2 for a, b in pairwise(turns)]
    bounds = zip(turns, [0, *meet], [*meet, num_samples], strict=False)  # without turns, one more
    return [
        Turn(max(turn.start_sample - pad, low), min(turn.stop_sample + pad, high))
        for turn, low, high in bounds
    ]


def _cut(turn: Turn, power: NDArray[np.float32], options: SpeechOptions) -> Iterator[Turn]:
    """The turn in parts that are short enough."""
    start, stop = turn
    longest, least = _samples(options.max_turn_seconds), _samples(options.min_turn_seconds)
    while stop - start > longest:
        cut = _quietest(power, start + longest // 2, min(start + longest, stop - least))
        yield Turn(start, cut)
        start = cut
    yield Turn(start, stop)


def _quietest(power: NDArray[np.float32], first_sample: int, last_sample: int) -> int:
    """The middle of the quietest chunks, not before the first sample and not after the last."""
    half = CHUNK_SAMPLES // 2
    first, last = -(-(first_sample - half) // CHUNK_SAMPLES), (last_sample - half) // CHUNK_SAMPLES
    margin = _QUIET_CHUNKS // 2
    around = power[first - margin : last + margin + 1]
    mean = np.convolve(around, np.ones(_QUIET_CHUNKS), "valid")  # of chunks first, first + 1 …
    return (first + int(mean.argmin())) * CHUNK_SAMPLES + half


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
