"""Norms with what stands before and after them, each in one pass over its rows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from worker.model.kernels.launch import block_of, stays_float32


@triton.jit
def gelu(x, EXACT: tl.constexpr):
    """X · Φ(x): within 2e-7 where EXACT, else within 3e-6, in about half of the instructions."""
    if EXACT:
        # erf by Abramowitz and Stegun 7.1.26, of |x| / √2.
        a = tl.abs(x)
        t = 1.0 / (1.0 + 0.23164190 * a)
        p = 1.061405429 * t - 1.453152027
        p = p * t + 1.421413741
        p = p * t - 0.284496736
        p = (p * t + 0.254829592) * t
        y = tl.maximum(x, 0.0) - 0.5 * a * p * tl.math.exp2(-0.72134752 * x * x)
        return tl.where(x == x, y, x)  # a maximum with NaN need not be one
    # Φ as the logistic function of an odd polynomial, fitted for the least error of the product;
    # the factors are those of −log2(e) times its argument.
    s = x * x
    p = -3.2103773795806832e-06 * s + 8.79097716314118e-05
    p = p * s + 0.00036204767953067636
    p = p * s - 0.1052299763097226
    p = p * s - 2.3020437767058364
    return x / (1.0 + tl.math.exp2(p * x))


@triton.jit
def normalized(y, c, eps, C: tl.constexpr, CP: tl.constexpr):
    """Rows (rows, channels) with mean 0 and variance 1, and each row's variance (rows,).

    Channels from C to CP are padding, and are zero.
    """
    d = y - (tl.sum(y, 1) / C)[:, None]
    if C < CP:  # else every row would pay for a comparison
        d = tl.where((c < C)[None, :], d, 0.0)
    variance = tl.sum(d * d, 1) / C
    return d * tl.rsqrt(variance + eps)[:, None], variance


@triton.jit
def _norm_gelu_kernel(
    x, weight, bias, roles, out, rows, eps,
    C: tl.constexpr, CP: tl.constexpr, ROWS: tl.constexpr,
    AFFINE: tl.constexpr, MASK: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CP)
    inside = (r < rows)[:, None] & (c < C)[None, :]
    at = r[:, None] * C + c[None, :]
    y, _ = normalized(tl.load(x + at, mask=inside, other=0.0).to(tl.float32), c, eps, C, CP)
    if AFFINE:
        y = y * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
        y += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y = gelu(y, EXACT)
    if MASK:
        y = tl.where((tl.load(roles + r, mask=r < rows, other=-1) >= 0)[:, None], y, 0.0)
    tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)


def norm_gelu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, roles: Tensor | None = None
) -> Tensor:
    """GELU(LayerNorm(x)), x (rows, channels); zero where `roles`, int32 (rows,), names no frame."""
    rows, channels = x.shape
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    padded = triton.next_power_of_2(channels)
    block = block_of(x, rows, 2)
    _norm_gelu_kernel[(triton.cdiv(rows, block),)](
        x, weight, bias, roles, out, rows, eps,
        C=channels, CP=padded, ROWS=block,
        AFFINE=weight is not None, MASK=roles is not None, EXACT=stays_float32(x),
        num_warps=1 if padded <= 512 else 4,
    )  # fmt: skip
    return out


@triton.jit
def _add_norm_kernel(
    x, y, weight, bias, roles, tokens, out, rows, eps,
    C: tl.constexpr, CP: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CP)
    inside = (r < rows)[:, None] & (c < C)[None, :]
    at = r[:, None] * C + c[None, :]
    z = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    z += tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    if TOKENS:
        token = -1 - tl.load(roles + r, mask=r < rows, other=0)
        is_token = (token >= 0) & (token < TOKENS)
        of_token = tl.where(is_token, token, 0)[:, None] * C + c[None, :]
        held = tl.load(tokens + of_token, mask=inside & is_token[:, None], other=0.0)
        z = tl.where(is_token[:, None], held.to(tl.float32), z)
    z, variance = normalized(z, c, eps, C, CP)
    z = z * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    z += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    # Divided by an infinite deviation, values would look as if they were any.
    z = tl.where((variance < float("inf"))[:, None], z, float("nan"))
    tl.store(out + at, z.to(out.dtype.element_ty), mask=inside)


def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    roles: Tensor | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """LayerNorm(x + y), both (slots, dim); a row that is not finite comes out as NaN.

    With `tokens` (count, dim), a slot whose role is −1 − i holds token i in place of the sum.
    """
    rows, channels = x.shape
    out = torch.empty_like(x)
    padded = triton.next_power_of_2(channels)
    block = block_of(x, rows, 1)
    _add_norm_kernel[(triton.cdiv(rows, block),)](
        x, y, weight, bias, roles, tokens, out, rows, eps,
        C=channels, CP=padded, ROWS=block, TOKENS=0 if tokens is None else len(tokens),
        num_warps=2,
    )  # fmt: skip
    return out
