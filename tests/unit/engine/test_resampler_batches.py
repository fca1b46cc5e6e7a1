"""The batches of a GPU's resampler: of few shapes, bounded, and none of them seen in a clip."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from tests.support.resampling import noise, resampler
from worker.audio.rates import num_resampled
from worker.engine import resampler as resampling
from worker.engine.resampler import DeviceResampler, Filters

Shape = tuple[int, int]
TOLERANCE = 1e-6  # where sums of float32 are taken in another order
LIMIT = 400_000
# Of up to 64 clips, from 4,096 to 65,536 samples long.
MOST_ROWS = {1, 2, 4, 8, 16, 32, 64}
MOST_COLUMNS = 33


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> set[Shape]:
    """All that the filters were given."""
    seen: set[Shape] = set()
    filters = resampling._filters

    def watched(*asked: Any) -> Filters:
        own = filters(*asked)

        def run(filled: Tensor) -> Tensor:
            rows, columns = filled.shape
            seen.add((rows, columns))
            return own(filled)

        return run

    monkeypatch.setattr(resampling, "_filters", watched)
    monkeypatch.setattr(resampling, "_MOST_BATCH_SAMPLES", LIMIT)
    return seen


def clips_of(random: np.random.Generator) -> list[NDArray[np.float32]]:
    """As they come: some of them, of any length up to 4 s at 16 kHz."""
    lengths = random.integers(4_096, 65_536, size=random.integers(1, 65))
    return [np.zeros(length, np.float32) for length in lengths]


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_shapes_are_few_and_bounded(rate_hz: int, shapes: set[Shape]) -> None:
    """However many batches there are, each of other clips."""
    resample = resampler(together=True)
    random = np.random.default_rng(0)
    for _ in range(20):
        resample(rate_hz, clips_of(random))
    assert {rows for rows, _ in shapes} <= MOST_ROWS
    assert any(rows > 4 for rows, _ in shapes)
    assert len({columns for _, columns in shapes}) <= MOST_COLUMNS
    for rows, columns in shapes:
        assert rows == 1 or rows * max(columns, num_resampled(columns, rate_hz, 16_000)) <= LIMIT


def test_shapes_of_last_parts_are_few(shapes: set[Shape]) -> None:
    """However long the last part of long audio is."""
    resample = resampler(together=True)
    for length in range(4_096, 65_536, 509):
        resample.stream(44_100).push(np.zeros(length, np.float32), last=True)
    assert len(shapes) <= MOST_COLUMNS


def test_what_is_put_around_clips_is_not_in_them(shapes: set[Shape]) -> None:
    """Of lengths on both sides of each step, and of rows that are not all taken."""
    together, alone = resampler(together=True), resampler()
    clips = [noise(length, length) for length in (0, 1, 4_095, 4_096, 4_097, 4_608, 4_609)]
    for clip, made in zip(clips, together(44_100, clips), strict=True):
        (expected,) = alone(44_100, [clip])
        np.testing.assert_allclose(made, expected, atol=TOLERANCE)
    assert (8, 5_120) in shapes


@pytest.mark.parametrize("num_clips", [1, 2, 3, 7, 64])
def test_what_is_put_around_clips_is_little(num_clips: int) -> None:
    """An eighth behind the longest at most, and fewer rows than there are."""
    for num_samples in [*range(200), *range(300, 100_000, 331), 2**20 - 1, 2**20, 2**20 + 1]:
        rows, columns = resampling._padded(num_clips, num_samples)
        assert num_clips <= rows < 2 * num_clips
        assert num_samples <= columns <= num_samples * 9 / 8


def test_a_cpu_has_nothing_put_around_its_clips(shapes: set[Shape]) -> None:
    """Each goes by itself, as it is: it would only take longer."""
    on_cpu: DeviceResampler = resampler()
    on_cpu(44_100, [noise(4_097), noise(5_001)])
    assert shapes == {(1, 4_097), (1, 5_001)}
