"""Random weights."""

import numpy as np
import torch

from tests.unit.model.parity import CPU, clip_of, segments_of, waveforms
from worker.engine.engine import Engine
from worker.model.synthetic import synthetic


def scores_of_the_clips(seed: int) -> list[list[float]]:
    """The scores of every parity clip under `random:tiny`."""
    engine = Engine(synthetic("tiny", device=CPU, dtype=torch.float32, seed=seed))
    segments = [s for samples in waveforms().values() for s in segments_of(clip_of(samples))]
    return [list(engine.pool([output]).scores.values()) for output in engine.run(segments)]


def test_random_weights_are_marked() -> None:
    """By name, and as untrained, so that every result can say so."""
    model = synthetic("tiny", device=CPU, dtype=torch.bfloat16)
    assert model.untrained
    assert model.name == "random:tiny"
    assert model.dtype == torch.bfloat16


def test_the_same_seed_gives_the_same_model() -> None:
    """And another seed another one."""
    first, again, other = (scores_of_the_clips(seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_clips_get_different_labels() -> None:
    """A demonstration in which every clip is sad would look broken."""
    scores = np.array(scores_of_the_clips(0))
    assert len(set(scores.argmax(axis=1))) >= 3
    assert scores.std(axis=0).max() > 0.1
