"""How a kernel is started: the sizes of its blocks, on a GPU and in the interpreter."""

import torch
import triton
from torch import Tensor

# A tensor core multiplies no fewer rows and columns than this.
LEAST_DOT = 16
# An interpreter takes as long for a program as for a thousand rows.
_INTERPRETED_ROWS = 8192


def block_of(x: Tensor, rows: int, on_gpu: int) -> int:
    """Rows that a program takes, of so many."""
    return min(_INTERPRETED_ROWS, padded_size(rows)) if interpreted(x.device) else on_gpu


def interpreted(device: torch.device) -> bool:
    """Whether programs on its tensors are not compiled."""
    return device.type == "cpu"


def stays_float32(x: Tensor) -> bool:
    """Whether a result stays float32: one that is rounded to 16 bits has no use for more."""
    return x.dtype is torch.float32


def padded_size(size: int) -> int:
    """The size of a block that holds so much: a power of two that can be multiplied."""
    padded: int = triton.next_power_of_2(size)
    return max(LEAST_DOT, padded)
