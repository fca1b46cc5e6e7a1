"""Clips to measure with: noise, in one of two stated distributions of length."""

import numpy as np

from worker.bench.choices import FIVE_SECONDS, LONGEST_SECONDS, SHORTEST_SECONDS, Lengths
from worker.clip import SAMPLE_RATE_HZ, Samples


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
