"""The network's convolutions, and the exact ways to compute each with torch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.model.config import ConvLayer, ModelConfig
from worker.model.linear import pack, packed_linear, packed_linear_add

# Slots of a positional convolution at a time, where it is done by matrix products.
POSITIONAL_SLOTS = 1024

# The norms outside the blocks have this one whatever `norm_eps` is.
FRONT_END_EPS = 1e-5


class FrontEndConv(nn.Module):
    """A convolution without padding, on rows (time, channels), and the norm that follows it.

    `weight` is (channels, kernel × channels_in), taken from a convolution's (channels, channels_in,
    kernel), so that the convolution is a sum of matrix products. Each takes as many of its taps as
    the stride is long: their rows do not overlap, and are read where they lie.
    """

    def __init__(self, layer: ConvLayer, channels_in: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.channels_in = layer.kernel, layer.stride, channels_in
        self.weight = nn.Parameter(torch.empty(layer.channels, layer.kernel * channels_in))
        self.norm = nn.LayerNorm(layer.channels, eps=FRONT_END_EPS)
        self._packed: list[Tensor] = []

    def pack(self, rows: int) -> None:
        """Hold the weight in oneDNN's layout for about `rows` rows, and nowhere else."""
        self._packed = [pack(self.weight[:, run], rows) for run in self._runs()]
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def ways(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """All exact ways: each (time, channels_in), contiguous, to (time_out, channels)."""
        return {"products": self.products, "convolution": self.convolution}

    def products(self, x: Tensor) -> Tensor:
        """By matrix products, each of some taps."""
        runs = self._runs()
        y = self._product(x, runs[0], 0)  # (time_out, channels)
        for number, run in enumerate(runs[1:], start=1):
            rows = self._rows(x, run)
            if self._packed:
                y = packed_linear_add(rows, self._packed[number], y)
            else:
                y.addmm_(rows, self.weight[:, run].T)
        return y

    def convolution(self, x: Tensor) -> Tensor:
        """By the library's convolution, of an image one pixel high; the weight is not packed."""
        weight = self.weight.view(len(self.weight), 1, self.kernel, self.channels_in)
        y = F.conv2d(x.T[None, :, None], weight.permute(0, 3, 1, 2), stride=(1, self.stride))
        return y[0, :, 0].T  # (time_out, channels)

    def _product(self, x: Tensor, run: slice, number: int) -> Tensor:
        rows = self._rows(x, run)
        if self._packed:
            return packed_linear(rows, self._packed[number])
        return F.linear(rows, self.weight[:, run])

    def _runs(self) -> list[slice]:
        """The columns of the weight that each product takes."""
        width = self.kernel * self.channels_in
        # One column a tap: a product with so few would cost more than copying what overlaps.
        step = width if self.channels_in == 1 else self.stride * self.channels_in
        return [slice(start, min(start + step, width)) for start in range(0, width, step)]

    def _rows(self, x: Tensor, run: slice) -> Tensor:
        """For each output what a run of columns is multiplied with: (time_out, columns)."""
        time_out = (len(x) - self.kernel) // self.stride + 1
        return x.as_strided(
            (time_out, run.stop - run.start),
            (self.stride * self.channels_in, 1),
            x.storage_offset() + run.start,
        )


class PositionalConv(nn.Module):
    """A grouped convolution that keeps the length, and the norm without affine that follows it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.groups, self.kernel = config.positional_groups, config.positional_kernel
        self.conv = nn.Conv1d(
            config.embed_dim,
            config.embed_dim,
            self.kernel,
            padding=self.kernel // 2,
            groups=self.groups,
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=FRONT_END_EPS, elementwise_affine=False)
        self.way = "convolution"  # one of `ways`, where nobody says which

    def ways(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """All exact ways to do it, the usual one first: each (slots, dim) to (slots, dim)."""
        # Not kept: it would hold this module in a cycle, and its weights past the model's end.
        return {
            "convolution": self.convolution,
            "channels_last": self.channels_last,
            "products": self.products,
        }

    def convolution(self, x: Tensor) -> Tensor:
        """By the convolution of the device's library."""
        y: Tensor = self.conv(x.T[None])[0].T  # (slots, dim), one slot longer for an even kernel
        return y[: len(x)]

    def channels_last(self, x: Tensor) -> Tensor:
        """By the same, as of an image one pixel high, whose channels lie where they are."""
        conv = self.conv
        weight = conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)
        y = F.conv2d(
            x.T[None, :, None],
            weight,
            conv.bias,
            padding=(0, self.kernel // 2),
            groups=self.groups,
        )  # (1, dim, 1, slots), one slot longer for an even kernel
        return y[0, :, 0].T[: len(x)]

    def products(self, x: Tensor) -> Tensor:
        """By matrix products, one a group, a run of slots at a time.

        Each slot is copied `kernel` times for it, which must not leave the cache.
        """
        slots, dim = x.shape
        width = dim // self.groups
        before = self.kernel // 2
        padded = F.pad(x, (0, 0, before, self.kernel - 1 - before))  # (slots + kernel − 1, dim)
        padded = padded.view(-1, self.groups, width).transpose(0, 1).contiguous()
        weight = self.conv.weight.view(self.groups, width, width, self.kernel)
        weight = weight.transpose(2, 3).reshape(self.groups, width, -1).transpose(1, 2)
        y = x.new_empty(slots, self.groups, width)
        for start in range(0, slots, POSITIONAL_SLOTS):
            stop = min(start + POSITIONAL_SLOTS, slots)
            rows = padded.as_strided(
                (self.groups, stop - start, self.kernel * width),
                (padded.stride(0), width, 1),
                start * width,
            )  # (groups, slots, kernel × width), overlapping
            y[start:stop] = torch.bmm(rows, weight).transpose(0, 1)
        bias = self.conv.bias
        assert bias is not None
        return y.view(slots, dim) + bias
