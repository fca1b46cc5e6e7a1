"""Matrix products with fixed weights, in the form that the CPU at hand multiplies fastest."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear`, which oneDNN can hold in its own blocked layout. `pack` once, before it is used.

    `forward` takes (rows, in_features) and gives (rows, out_features).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._packed: Tensor | None = None

    def pack(self, rows: int) -> None:
        """Hold the weight in oneDNN's layout for about `rows` rows, and nowhere else."""
        self._packed = pack(self.weight, rows)
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, in_features) to (rows, out_features)."""
        if self._packed is None:
            return F.linear(x, self.weight, self.bias)
        return packed_linear(x, self._packed, self.bias)

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of what `forward` gives; a packed product does it before it leaves the cache."""
        if self._packed is None:
            return F.gelu(self(x))
        return packed_linear(x, self._packed, self.bias, then="gelu")


def pack(weight: Tensor, rows: int) -> Tensor:
    """A weight (out_features, in_features) in oneDNN's layout; only `packed_linear` can read it."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return packed


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None = None, *, then: Literal["none", "gelu"] = "none"
) -> Tensor:
    """(rows, in_features) times a packed weight, `then` exact GELU: (rows, out_features)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, then, [], "none")
    return y


def packed_linear_add(x: Tensor, packed: Tensor, other: Tensor) -> Tensor:
    """`packed_linear` plus `other` (rows, out_features), in one pass."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, None, "add")
    return y
