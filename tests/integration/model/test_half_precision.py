"""Half precision on a model of full size."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.engine.test_parity import HALF_TOLERANCE, assert_agreement
from tests.unit.model.parity import CPU, clip_of, noise, segments_of
from worker.engine.engine import Engine
from worker.model.synthetic import synthetic
from worker.tape import Segment


@pytest.fixture(scope="module")
def large_scores() -> list[NDArray[np.float32]]:
    """What `random:large` gives for the short clips in float32."""
    engine = Engine(synthetic("large", device=CPU, dtype=torch.float32))
    return [np.array(list(engine.pool([o]).scores.values())) for o in engine.run(short_clips())]


def short_clips() -> list[Segment]:
    """Half a second each: a CPU without the instructions takes long for it."""
    return [s for seed in range(3) for s in segments_of(clip_of(noise(8_000, seed)))]


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Rounding these random weights to bfloat16, and nothing else, moves scores by up to 0.06.
        (torch.bfloat16, 0.1),
        (torch.float16, HALF_TOLERANCE),
    ],
)
def test_half_precision_agrees_on_the_large_model(
    dtype: torch.dtype, tolerance: float, large_scores: list[NDArray[np.float32]]
) -> None:
    """Twelve blocks of the real size: the labels stay where float32 is sure of them by 0.02."""
    engine = Engine(synthetic("large", device=CPU, dtype=dtype))
    assert_agreement(engine, engine.run(short_clips()), large_scores, tolerance)
