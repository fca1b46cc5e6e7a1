"""Attention on a tape: each segment by itself, with ALiBi between its frames.

`SegmentMix` calls one attention for each segment; it needs nothing prepared, and is how a CPU does
it. A GPU has one kernel for the whole tape (`worker.model.tape_operations`).
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.model.alibi import AlibiBias


class Mix(Protocol):
    """Lets the slots of a tape see each other."""

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """(slots, 3, heads, head_dim) to (slots, heads × head_dim)."""


class SegmentMix:
    """One attention a segment. `segments` are the slots of each that see each other."""

    def __init__(
        self, segments: Sequence[slice], bias: AlibiBias, *, scale: Tensor, dtype: torch.dtype
    ) -> None:
        self._segments = segments
        self._bias = bias
        self._scale = scale
        self._dtype = dtype
        self._longest = max(slots.stop - slots.start for slots in segments)

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """(slots, 3, heads, head_dim) to (slots, heads × head_dim); no segment's slots are 0."""
        bias = self._bias.of_layer(
            layer, scale=self._scale, length=self._longest, dtype=self._dtype
        )  # (heads, longest, longest)
        slots, _, heads, head_dim = qkv.shape
        mixed = qkv.new_zeros(slots, heads * head_dim)
        for run in self._segments:
            length = run.stop - run.start
            q, k, v = qkv[run].permute(1, 2, 0, 3)[:, None]  # 3 × (1, heads, length, head_dim)
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias[None, :, :length, :length]
            )  # (1, heads, length, head_dim)
            mixed[run] = out[0].transpose(0, 1).flatten(1)  # (length, heads × head_dim)
        return mixed
