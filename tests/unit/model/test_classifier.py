"""The output layer: the same for a frame whatever comes with it, and in little memory."""

import tracemalloc

import numpy as np
import pytest

from tests.unit.model.parity import noise
from worker.model.model import Classifier

DIM, LABELS = 1024, 9
MIB = 1024**2


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """As large as that of emotion2vec+ large."""
    random = np.random.default_rng(0)
    return Classifier(random.standard_normal((LABELS, DIM)), random.standard_normal(LABELS))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_a_frame_gives_what_it_gives_alone(count: int, classifier: Classifier) -> None:
    """To the last bit, and as it is defined, in float64."""
    frames = noise(count * DIM).reshape(count, DIM)
    found = classifier.logits(frames)
    assert found.shape == (count, LABELS)
    for frame, logits in zip(frames, found, strict=True):
        assert np.array_equal(classifier.logits(frame), logits)
        expected = classifier.weight @ frame.astype(np.float64) + classifier.bias
        np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)


def test_all_frames_of_a_tape_take_little_more_than_one(classifier: Classifier) -> None:
    """They are widened a few at a time: all of them at once would be 134 MB."""
    frames = noise(16_384 * DIM).reshape(-1, DIM)
    tracemalloc.start()
    try:
        found = classifier.logits(frames)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 2 * found.nbytes + 4 * MIB
