"""What the device itself can do: matrix products a second, and bytes a second."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from worker.bench.cost import Product
from worker.bench.timing import median_seconds
from worker.model.linear import pack, packed_linear

_SIZE_CPU, _SIZE_GPU = 2_048, 8_192
_SIZE_OF_A_LOOK = 512  # where no time is to be taken
_COPY_BYTES_CPU, _COPY_BYTES_GPU = 2**28, 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """Where the network runs, and in which numbers; each rate is measured for `seconds`."""

    device: torch.device
    dtype: torch.dtype
    seconds: float

    @property
    def on_cpu(self) -> bool:
        """Whether it is the CPU."""
        return self.device.type == "cpu"

    def matrix_rate(self) -> float:
        """Operations a second of one big square product."""
        size = _SIZE_CPU if self.on_cpu else _SIZE_GPU
        size = size if self.seconds else _SIZE_OF_A_LOOK
        return 2 * size**3 / self._linear_seconds(rows=size, inner=size, outer=size)

    def product_seconds(self, product: Product, slots: int) -> float:
        """Seconds for all products of this kind on a tape of so many slots, alone."""
        rows = product.rows * slots
        if product.groups == 1:
            return product.count * self._linear_seconds(
                rows=rows, inner=product.inner, outer=product.outer
            )
        x = self._random(product.groups, rows, product.inner)
        weight = self._random(product.groups, product.inner, product.outer // product.groups)
        return product.count * self._seconds(lambda: torch.bmm(x, weight))

    def copy_rate(self) -> float:
        """Bytes a second of a large copy, those read and those written."""
        num_bytes = _COPY_BYTES_CPU if self.on_cpu else _COPY_BYTES_GPU
        source = torch.zeros(num_bytes, dtype=torch.uint8, device=self.device)
        target = torch.zeros_like(source)
        return 2 * num_bytes / self._seconds(lambda: target.copy_(source))

    def _linear_seconds(self, *, rows: int, inner: int, outer: int) -> float:
        """Seconds for (rows, inner) × (inner, outer), by the fastest library at hand."""
        x, weight = self._random(rows, inner), self._random(outer, inner)
        took = self._seconds(lambda: F.linear(x, weight))
        if self.on_cpu and self.dtype == torch.float32:
            # PyTorch's own choice for it can be half as fast as oneDNN with packed weights.
            packed = pack(weight, rows)
            took = min(took, self._seconds(lambda: packed_linear(x, packed)))
        return took

    @torch.inference_mode()
    def _seconds(self, call: Callable[[], Tensor]) -> float:
        def run() -> None:
            call()
            if not self.on_cpu:
                torch.cuda.synchronize(self.device)

        run()  # libraries choose their kernels the first time
        return median_seconds(run, seconds=self.seconds)

    def _random(self, *shape: int) -> Tensor:
        # Real numbers: zeros need less power, and run faster.
        return torch.randn(shape, device=self.device).to(self.dtype)
