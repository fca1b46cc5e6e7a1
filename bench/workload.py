"""What both sides are given: the same random weights on disk, and the same clips."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.unit.model.directories import LARGE, save, write_directory
from tests.unit.model.parity import DATA
from worker.bench.choices import Lengths
from worker.clip import Samples
from worker.model.config import ModelConfig
from worker.model.synthetic import random_tensor
from worker.model.weights import checkpoint_shapes


def write_checkpoint(directory: Path, size: str) -> Path:
    """The weights of `random:large` or `random:tiny`, in the format that both sides read."""
    write_directory(directory, **(LARGE if size == "large" else {}))
    shutil.copy(DATA / "tiny" / "configuration.json", directory)
    shapes = checkpoint_shapes(ModelConfig.from_directory(directory))
    save(directory, {name: random_tensor(name, shape, 0) for name, shape in shapes.items()})
    return directory


def write_clips(path: Path, clips: Mapping[Lengths, list[Samples]]) -> Path:
    """One file of all clips, each under its workload's name and its number: `short/3`."""
    arrays = {
        f"{lengths}/{number}": samples
        for lengths, drawn in clips.items()
        for number, samples in enumerate(drawn)
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type] # the stubs know no arrays by keyword
    return path
