"""What a device runs as one kernel where a compiler fuses it, and as several where none does."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Fused:
    """The chains of operations that only pass over memory.

    `norm_gelu(x, norm)` is GELU(norm(x)), `add_norm(x, y, norm)` is norm(x + y); x and y are
    (rows, channels), and the result as well.
    """

    norm_gelu: Callable[[Tensor, nn.LayerNorm], Tensor]
    add_norm: Callable[[Tensor, Tensor, nn.LayerNorm], Tensor]


def _norm_gelu(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias, eps))


def _add_norm(
    x: Tensor, y: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    return F.layer_norm(x + y, x.shape[-1:], weight, bias, eps)


def _fused(norm_gelu: Callable[..., Tensor], add_norm: Callable[..., Tensor]) -> Fused:
    return Fused(
        norm_gelu=lambda x, norm: norm_gelu(x, norm.weight, norm.bias, norm.eps),
        add_norm=lambda x, y, norm: add_norm(x, y, norm.weight, norm.bias, norm.eps),
    )


EAGER = _fused(_norm_gelu, _add_norm)


def compiled() -> Fused:
    """Both as one kernel each, compiled when first called with a shape. For CUDA devices.

    On a CPU it is the other way round: torch's own kernels are faster (docs/performance.md).
    """
    programs = torch.compile(_norm_gelu), torch.compile(_add_norm)
    return _fused(*(_for_any_rows(program) for program in programs))


def _for_any_rows(program: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One program for any number of rows, and one for each number of channels."""

    def call(x: Tensor, *rest: object) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(x, 0)
        torch._dynamo.mark_static(x, 1)
        return program(x, *rest)

    return call
