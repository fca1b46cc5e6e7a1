"""ALiBi: the attention bias that stands for positions, the stronger the farther."""

import math

import torch
from torch import Tensor

# Rows of a bias that are not aligned would be copied by the attention kernels on every call.
ROW_ALIGNMENT = 64


def slopes(num_heads: int) -> list[float]:
    """The slope of each head. Source: the ALiBi paper, arXiv 2108.12409, and its reference code.

    For a power of two: a geometric series that begins with its own ratio, 2^(-8/n). Otherwise the
    slopes of the next lower power of two, then every second one of the next higher.
    """
    lower = 2 ** math.floor(math.log2(num_heads))
    series = [2 ** (-8 * (i + 1) / lower) for i in range(lower)]
    if lower == num_heads:
        return series
    return series + slopes(2 * lower)[::2][: num_heads - lower]


def unscaled_bias(
    num_heads: int, *, extra_tokens: int, length: int, device: torch.device
) -> Tensor:
    """−|i−j| · slope, zero for the extra tokens: float32 (heads, length, length)."""
    slope = torch.tensor(slopes(num_heads), device=device)  # (heads,)
    frame = torch.arange(length - extra_tokens, device=device)
    distance = (frame[:, None] - frame[None, :]).abs()  # (frames, frames)
    bias = torch.zeros(num_heads, length, length, device=device)
    bias[:, extra_tokens:, extra_tokens:] = distance
    return bias.mul_(-slope[:, None, None])


class AlibiBias:
    """The bias of every layer, for segments of any length up to the longest seen so far.

    The extra tokens come first, so the bias of a shorter segment is the top left corner of a longer
    one's, and one table serves all. Thread-safe.
    """

    def __init__(self, *, num_heads: int, extra_tokens: int) -> None:
        self._num_heads = num_heads
        self._extra_tokens = extra_tokens
        self._table: Tensor | None = None

    def of_layer(self, layer: int, *, scale: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        """Bias of at least `length` slots: `dtype` (heads, slots, slots).

        `scale` is float32 (layers, 1, heads, 1, 1), with 1 in place of what shares one scale.
        """
        scale = scale[:, 0].clamp(min=0)  # (layers or 1, heads or 1, 1, 1)
        shared = len(scale) == 1
        table = self._table  # another thread may replace it
        if table is None or table.shape[-1] < length:
            table = unscaled_bias(
                self._num_heads,
                extra_tokens=self._extra_tokens,
                length=-(-length // ROW_ALIGNMENT) * ROW_ALIGNMENT,
                device=scale.device,
            )
            # Scaled once where all layers agree: it is read in every layer of every tape.
            table = _cast(table.mul_(scale[0]), dtype) if shared else table
            self._table = table
        if shared:
            return table
        return _cast(table[:, :length, :length] * scale[layer], dtype)


def _cast(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """In `dtype`; never infinite, though float16 ends before the longest distances do."""
    if dtype is torch.float16:
        bias.clamp_(min=torch.finfo(dtype).min)
    return bias.to(dtype)
