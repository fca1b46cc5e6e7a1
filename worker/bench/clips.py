"""Clips to measure with: noise, in one of two stated distributions of length."""

from enum import StrEnum

import numpy as np

from worker.clip import SAMPLE_RATE_HZ, Samples

SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 12.0
FIVE_SECONDS = 5.0


class Lengths(StrEnum):
    """How long the clips are: utterances of 1.5 to 12 s, uniformly drawn, or 5 s each."""

    SHORT = "short"
    FIVE = "five"

    @property
    def meaning(self) -> str:
        """The distribution in words."""
        if self is Lengths.FIVE:
            return f"{FIVE_SECONDS:g} s each"
        return f"{SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} s, uniformly drawn"


def draw(lengths: Lengths, count: int, seed: int = 0) -> list[Samples]:
    """`count` clips, float32 (num_samples,), 16 kHz, about [-0.5, 0.5]; a seed gives the same."""
    random = np.random.default_rng(seed)
    seconds = np.full(count, FIVE_SECONDS)
    if lengths is Lengths.SHORT:
        seconds = random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS, count)
    return [noise(int(each * SAMPLE_RATE_HZ), random) for each in seconds]


def noise(num_samples: int, random: np.random.Generator) -> Samples:
    """White noise, float32 (num_samples,), about [-0.5, 0.5]."""
    return random.normal(0, 0.1, num_samples).astype(np.float32)
