"""What both sides are given: the same random weights on disk, and the same clips."""

import shutil
from pathlib import Path

import numpy as np

from tests.unit.model.directories import LARGE, save, write_directory
from tests.unit.model.parity import DATA
from worker.clip import SAMPLE_RATE_HZ, Samples
from worker.model.config import ModelConfig
from worker.model.synthetic import random_tensor
from worker.model.weights import checkpoint_shapes

SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 12.0


def write_checkpoint(directory: Path, size: str) -> Path:
    """The weights of `random:large` or `random:tiny`, in the format that both sides read."""
    write_directory(directory, **(LARGE if size == "large" else {}))
    shutil.copy(DATA / "tiny" / "configuration.json", directory)
    shapes = checkpoint_shapes(ModelConfig.from_directory(directory))
    save(directory, {name: random_tensor(name, shape, 0) for name, shape in shapes.items()})
    return directory


def draw_clips(count: int, seed: int = 0) -> list[Samples]:
    """Noise of 1.5 to 12 s, lengths uniformly drawn; float32, 16 kHz, about [-0.5, 0.5]."""
    random = np.random.default_rng(seed)
    return [
        random.normal(0, 0.1, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
        for seconds in random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS, count)
    ]
