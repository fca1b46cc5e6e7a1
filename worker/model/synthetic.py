"""Random weights of a real architecture: everything runs as in earnest, and means nothing."""

import math
import zlib
from typing import Literal

import torch
from torch import Tensor

from worker.model.config import ConvLayer, ModelConfig
from worker.model.model import Model
from worker.model.weights import OUTPUT_WEIGHT, assemble, checkpoint_shapes

TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)

# What reads the output of a GELU.
AFTER_GELU = ("conv_layers", "project_features", "fc2")


def architecture(size: Literal["large", "tiny"]) -> ModelConfig:
    """The sizes of emotion2vec+ large, or of one that runs in milliseconds anywhere."""
    large = size == "large"
    channels = 512 if large else 32
    return ModelConfig(
        embed_dim=1024 if large else 64,
        num_heads=16 if large else 4,
        mlp_dim=4096 if large else 256,
        prenet_depth=4 if large else 2,
        depth=8 if large else 2,
        num_extra_tokens=10,
        norm_eps=1e-5,
        front_end=(
            ConvLayer(channels, kernel=10, stride=5),
            *[ConvLayer(channels, kernel=3, stride=2)] * 4,
            *[ConvLayer(channels, kernel=2, stride=2)] * 2,
        ),
        positional_kernel=19,
        positional_depth=5,
        positional_groups=16 if large else 4,
        alibi_layers=1,
        alibi_heads=16 if large else 4,
        tokens=TOKENS,
    )


def synthetic(
    size: Literal["large", "tiny"], *, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Model:
    """The model `random:large` or `random:tiny`; the same seed gives the same weights."""
    config = architecture(size)
    shapes = checkpoint_shapes(config)
    network, classifier = assemble(
        config,
        lambda name: random_tensor(name, shapes[name], seed),
        device=device,
        dtype=dtype,
    )
    return Model(
        name=f"random:{size}",
        revision=f"seed-{seed}",
        untrained=True,
        config=config,
        network=network,
        classifier=classifier,
        device=device,
        dtype=dtype,
    )


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A tensor that keeps activations near unit size, so that scores differ between clips."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
    if name.endswith("alibi_scale") or (len(shape) == 1 and name.endswith("weight")):
        return torch.ones(shape)
    if len(shape) == 1:
        return torch.zeros(shape)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("extra_tokens"):
        return noise
    if shape[1] > 1 and any(part in name for part in AFTER_GELU):
        # GELU's outputs have a mean, and it would drown what sets one clip apart from another.
        noise -= noise.mean(dim=1, keepdim=True)
    gain = 4.0 if name == OUTPUT_WEIGHT else 1.0
    return noise.mul_(gain / math.sqrt(math.prod(shape[1:])))
