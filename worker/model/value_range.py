"""How large the values in the network can become: bounds that its weights prove, for any clip.

In float16 nothing above 65,504 exists. This network normalizes after each part of a block, so what
goes into a matrix product has a length that the norm before it fixes; and no row of the product is
longer than that times the length of the weights it meets (Cauchy and Schwarz).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worker.model.network import Block, FrontEndConv, Network, PositionalConv


class Bound(NamedTuple):
    """No value there is larger in magnitude, whatever the clip."""

    where: str
    value: float


def largest_value(network: Network, num_samples: int) -> Bound:
    """The largest of all values that the network stores, for clips of up to `num_samples`.

    Infinite where a weight is. The weights have to be plain: before they are packed.
    """
    return max(bounds(network, num_samples), key=lambda bound: bound.value)


@torch.inference_mode()
def bounds(network: Network, num_samples: int) -> list[Bound]:
    """A bound for the output of each part, in their order."""
    # Of a normalized clip the squares add up to no more than the number of its samples; so one
    # sample alone may be all of them, and the samples under a frame are no longer than that either.
    length = math.sqrt(num_samples)
    found = [Bound("samples", length)]
    for number, conv in enumerate(network.front_end):
        assert isinstance(conv, FrontEndConv)
        if number:
            length *= math.sqrt(conv.kernel)  # so many rows of the layer before
        found.append(Bound(f"front_end.{number}", _longest_row(conv.weight) * length))
        length = _after(conv.norm, conv.weight.shape[0])

    length = _after(network.project_norm, network.project.in_features)
    length = _length_after(network.project, length)
    found.append(Bound("project", length))
    position = length
    for number, positional in enumerate(network.positional):
        assert isinstance(positional, PositionalConv)
        conv1d = positional.conv
        taps = math.sqrt(positional.kernel) * position
        found.append(Bound(f"positional.{number}", _value_after(conv1d, taps)))
        position = math.sqrt(conv1d.out_channels)  # its norm has no weights
    found.append(Bound("position", length + position))
    found.append(Bound("extra_tokens", float(network.extra_tokens.float().abs().amax())))

    length = _after(network.norm, network.project.out_features)
    for number, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        found += _block_bounds(block, length, f"blocks.{number}")
        length = _after(block.norm2, block.fc2.out_features)
    return found


def _block_bounds(block: Block, length: float, name: str) -> list[Bound]:
    attention = block.attn
    found = [Bound(f"{name}.attn.qkv", _value_after(attention.qkv, length))]
    # A head's output lies between the values that it mixes.
    dim = attention.proj.in_features
    values = _norm(attention.qkv.weight[2 * dim :]) * length + _norm(attention.qkv.bias[2 * dim :])
    added = _value_after(attention.proj, values)
    found.append(Bound(f"{name}.attn", length + added))
    length = _after(block.norm1, block.fc1.in_features)
    found.append(Bound(f"{name}.fc1", _value_after(block.fc1, length)))
    # GELU only brings values nearer to zero.
    added = _value_after(block.fc2, _length_after(block.fc1, length))
    found.append(Bound(f"{name}.fc2", length + added))
    return found


def _after(norm: nn.Module, dim: int) -> float:
    """The length of a row after a LayerNorm: that of `dim` ones, weighted, and the bias."""
    assert isinstance(norm, nn.LayerNorm)
    return float(norm.weight.float().abs().amax()) * math.sqrt(dim) + _norm(norm.bias)


def _value_after(product: nn.Linear | nn.Conv1d, length: float) -> float:
    """The largest value of a product with rows of that length."""
    return _longest_row(product.weight) * length + _largest(product.bias)


def _length_after(product: nn.Linear, length: float) -> float:
    """The length of a row of a product with rows of that length."""
    return _norm(product.weight) * length + _norm(product.bias)


def _longest_row(weight: Tensor) -> float:
    return float(weight.float().flatten(1).norm(dim=1).amax())


def _largest(bias: Tensor | None) -> float:
    return 0.0 if bias is None else float(bias.float().abs().amax())


def _norm(values: Tensor) -> float:
    return float(values.float().norm())
