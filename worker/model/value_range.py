"""How large the values in the network can become: bounds that its weights prove, for any clip.

In float16 nothing above 65,504 exists. This network normalizes after each part of a block, so what
goes into a matrix product has a length that the norm before it fixes; and no value of the product
is larger than that times the length of the weights it meets (Cauchy and Schwarz). Attention's own
inside is left out: its scores are float32, and its bias is never let beyond the range.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.network import Block, Network


class Bound(NamedTuple):
    """No value there is larger in magnitude, whatever the clip."""

    where: str
    value: float


def largest_value(network: Network, num_samples: int) -> Bound:
    """The largest of all values that the network stores, for clips of up to `num_samples`.

    Infinite where a weight is not finite. The weights have to be plain: before they are packed.
    """
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            return Bound(name, math.inf)
    return max(bounds(network, num_samples), key=lambda bound: bound.value)


@torch.inference_mode()
def bounds(network: Network, num_samples: int) -> list[Bound]:
    """A bound for what each part stores, in their order."""
    # Of a normalized clip the squares add up to no more than the number of its samples; so one
    # sample alone may be all of them, and the samples under a frame are no longer than that either.
    length = math.sqrt(num_samples)
    found = [Bound("samples", length)]
    for number, conv in enumerate(network.front_end):
        assert isinstance(conv, FrontEndConv)
        if number:
            length *= math.sqrt(conv.kernel)  # so many rows of the layer before
        found.append(Bound(f"front_end.{number}", _longest_row(conv.weight) * length))
        found.append(_norm_bound(f"front_end.{number}.norm", conv.norm, len(conv.weight)))
        length = _length_after_norm(conv.norm, len(conv.weight))

    channels = network.project.in_features
    found.append(_norm_bound("project_norm", network.project_norm, channels))
    length = _length_after(network.project, _length_after_norm(network.project_norm, channels))
    found.append(Bound("project", length))
    position = length
    for number, positional in enumerate(network.positional):
        assert isinstance(positional, PositionalConv)
        conv1d = positional.conv
        taps = math.sqrt(positional.kernel) * position
        found.append(Bound(f"positional.{number}", _value_after(conv1d, taps)))
        position = math.sqrt(conv1d.out_channels)  # its norm has no weights
    found.append(Bound("position", length + position))
    found.append(Bound("extra_tokens", _largest(network.extra_tokens)))

    dim = network.project.out_features
    found.append(_norm_bound("norm", network.norm, dim))
    length = _length_after_norm(network.norm, dim)
    for number, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        found += _block_bounds(f"blocks.{number}", block, length, dim)
        length = _length_after_norm(block.norm2, dim)
    return found


def _block_bounds(name: str, block: Block, length: float, dim: int) -> list[Bound]:
    """`length` is that of the rows that come in."""
    qkv, proj = block.attn.qkv, block.attn.proj
    found = [Bound(f"{name}.attn.qkv", _value_after(qkv, length))]
    # A head's output lies between the values that it mixes.
    mixed = _norm(qkv.weight[2 * dim :]) * length + _norm(qkv.bias[2 * dim :])
    found.append(Bound(f"{name}.attn", length + _value_after(proj, mixed)))
    found.append(_norm_bound(f"{name}.norm1", block.norm1, dim))
    length = _length_after_norm(block.norm1, dim)
    found.append(Bound(f"{name}.fc1", _value_after(block.fc1, length)))
    # GELU only brings values nearer to zero.
    added = _value_after(block.fc2, _length_after(block.fc1, length))
    found.append(Bound(f"{name}.fc2", length + added))
    found.append(_norm_bound(f"{name}.norm2", block.norm2, dim))
    return found


def _norm_bound(name: str, norm: nn.Module, dim: int) -> Bound:
    """A row of `dim` normalized values may hold a single one that is not near zero."""
    assert isinstance(norm, nn.LayerNorm)
    return Bound(name, _largest(norm.weight) * math.sqrt(dim) + _largest(norm.bias))


def _length_after_norm(norm: nn.Module, dim: int) -> float:
    """The length of a row of `dim` normalized values, weighted, and of the bias."""
    assert isinstance(norm, nn.LayerNorm)
    return _largest(norm.weight) * math.sqrt(dim) + _norm(norm.bias)


def _value_after(product: nn.Linear | nn.Conv1d, length: float) -> float:
    """The largest value of a product with rows of that length."""
    bias = product.bias
    return _longest_row(product.weight) * length + (0.0 if bias is None else _largest(bias))


def _length_after(product: nn.Linear, length: float) -> float:
    """The length of a row of a product with rows of that length."""
    return _norm(product.weight) * length + _norm(product.bias)


def _longest_row(weight: Tensor) -> float:
    return float(weight.float().flatten(1).norm(dim=1).amax())


def _largest(values: Tensor) -> float:
    return float(values.float().abs().amax())


def _norm(values: Tensor) -> float:
    return float(values.float().norm())
