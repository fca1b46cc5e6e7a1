"""What the network computes between its plain matrix products, and how torch alone does it.

On a GPU kernels of our own do the same: `worker.model.tape_operations`.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.linear import Linear


class Operations(Protocol):
    """The parts of the network that a device may compute in ways of its own; each is exact."""

    @property
    def front_end_frames(self) -> int | None:
        """Frames that the front end takes at a time; None for what suits the device."""

    def front_end(self, conv: FrontEndConv, x: Tensor) -> Tensor:
        """GELU(norm(conv(x))): (time, channels_in), contiguous, to (time_out, channels)."""

    def positional(self, conv: PositionalConv, x: Tensor, roles: Tensor) -> Tensor:
        """GELU(norm(conv(x))), (slots, dim), and zero where `roles` (slots,) names no frame."""

    def embed(
        self, x: Tensor, position: Tensor, roles: Tensor, tokens: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        """norm(x + position), (slots, dim); `tokens` (count, dim) are in their slots."""

    def add_norm(self, x: Tensor, y: Tensor, norm: nn.LayerNorm) -> Tensor:
        """norm(x + y), (slots, dim)."""

    def linear_gelu(self, linear: Linear, x: Tensor) -> Tensor:
        """GELU(linear(x)), (slots, dim) to (slots, mlp_dim)."""


class TorchOperations:
    """Operation by operation, on any device. Thread-safe."""

    front_end_frames: int | None = None

    def front_end(self, conv: FrontEndConv, x: Tensor) -> Tensor:
        """GELU(norm(conv(x))): (time, channels_in), contiguous, to (time_out, channels)."""
        return F.gelu(conv.norm(conv.products(x.to(conv.weight.dtype))))

    def positional(self, conv: PositionalConv, x: Tensor, roles: Tensor) -> Tensor:
        """GELU(norm(conv(x))), (slots, dim), and zero where `roles` (slots,) names no frame."""
        y = F.gelu(conv.norm(conv.ways()[conv.way](x)))
        return y.masked_fill((roles < 0)[:, None], 0.0)

    def embed(
        self, x: Tensor, position: Tensor, roles: Tensor, tokens: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        """norm(x + position), (slots, dim); `tokens` (count, dim) are in their slots."""
        x = x + position
        count = len(tokens)
        if count:
            token = -1 - roles  # (slots,), from `count` up where a slot belongs to no segment
            is_token = ((token >= 0) & (token < count))[:, None]  # (slots, 1)
            x = torch.where(is_token, tokens[token.clamp(0, count - 1)], x)
        out: Tensor = norm(x)
        return out

    def add_norm(self, x: Tensor, y: Tensor, norm: nn.LayerNorm) -> Tensor:
        """norm(x + y), (slots, dim)."""
        out: Tensor = norm(x + y)
        return out

    def linear_gelu(self, linear: Linear, x: Tensor) -> Tensor:
        """GELU(linear(x)), (slots, dim) to (slots, mlp_dim)."""
        return linear.gelu(x)


EAGER = TorchOperations()
