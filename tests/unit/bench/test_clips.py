"""The clips that are measured with."""

import numpy as np

from worker.bench.choices import Lengths
from worker.bench.clips import draw


def test_short_clips_are_of_1_5_to_12_seconds() -> None:
    """Uniformly drawn, so that both ends are there among many."""
    seconds = [len(samples) / 16_000 for samples in draw(Lengths.SHORT, 200)]
    assert 1.5 <= min(seconds) < 2.5
    assert 11.0 < max(seconds) <= 12.0


def test_five_is_five_seconds() -> None:
    """Each clip, to the sample."""
    assert {len(samples) for samples in draw(Lengths.FIVE, 5)} == {80_000}


def test_both_sides_of_a_comparison_draw_the_same_clips() -> None:
    """The same seed, the same samples; another clip, other samples."""
    first, second = draw(Lengths.FIVE, 2)
    assert np.array_equal(first, draw(Lengths.FIVE, 1)[0])
    assert not np.array_equal(first, second)
