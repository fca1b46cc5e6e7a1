"""Model directories in the on-disk format of the published ones."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor

from tests.unit.model.parity import DATA
from worker.model.config import ModelConfig
from worker.model.weights import checkpoint_shapes


def write_directory(directory: Path, **changes: object) -> Path:
    """A directory with `tiny`'s config and tokens, but for changed fields, and no weights yet.

    A field is named by its section: `audio__prenet_depth`, `model__embed_dim`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / "tiny" / "tokens.txt", directory)
    config = yaml.safe_load((DATA / "tiny" / "config.yaml").read_text(encoding="utf-8"))
    sections = {
        "model": config["model_conf"],
        "audio": config["model_conf"]["modalities"]["audio"],
    }
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if value is None:
            del sections[section][field]
        else:
            sections[section][field] = value
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return directory


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The weights of a parity checkpoint by name."""
    checkpoint = torch.load(directory / "model.pt", weights_only=True, map_location="cpu")
    weights: dict[str, Tensor] = checkpoint["model"]
    return weights


def save(
    directory: Path, weights: Mapping[str, object], *, old_format: bool = False, **others: object
) -> Path:
    """Write `model.pt` with the weights under "model", and other objects beside them."""
    path = directory / "model.pt"
    torch.save(
        {"model": dict(weights), **others}, path, _use_new_zipfile_serialization=not old_format
    )
    return path


LARGE: Mapping[str, object] = {
    "model__embed_dim": 1024,
    "model__num_heads": 16,
    "model__depth": 8,
    "audio__num_alibi_heads": 16,
    "audio__prenet_depth": 4,
    "audio__conv_pos_groups": 16,
    "audio__feature_encoder_spec": (
        "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    ),
}


def write_large(directory: Path) -> Path:
    """The layout of the published checkpoint: 163 M parameters, and optimiser state of twice that.

    All weights are zero, and holes in the file, so that it takes no time to write.
    """
    write_directory(directory, **LARGE)
    shapes = checkpoint_shapes(ModelConfig.from_directory(directory))
    weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    moments = {
        i: {"step": 1, "exp_avg": torch.empty(shape), "exp_avg_sq": torch.empty(shape)}
        for i, shape in enumerate(shapes.values())
    }
    with torch.serialization.skip_data():
        save(directory, weights, last_optimizer_state={"state": moments})
    return directory
