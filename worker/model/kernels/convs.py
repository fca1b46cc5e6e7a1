"""Convolutions that the libraries are slow at: of the samples, and of many small groups."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from worker.model.kernels.launch import block_of, padded_size, stays_float32
from worker.model.kernels.norms import gelu, normalized


@triton.jit
def _first_conv_kernel(
    samples, taps, weight, bias, out, rows, eps,
    C: tl.constexpr, CP: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, STRIDE: tl.constexpr,
    ROWS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    k = tl.arange(0, KP)
    c = tl.arange(0, CP)
    w = tl.load(taps + k[:, None] * CP + c[None, :])
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = (r < rows)[:, None] & (k < K)[None, :]
    x = tl.load(samples + r[:, None] * STRIDE + k[None, :], mask=there, other=0.0)
    y = tl.dot(x.to(w.dtype), w, input_precision="ieee")
    y, _ = normalized(y, c, eps, C, CP)
    # Loaded no sooner: registers that wait would leave room for fewer programs.
    y = y * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y = gelu(y, EXACT).to(out.dtype.element_ty)
    tl.store(out + r[:, None] * C + c[None, :], y, mask=(r < rows)[:, None] & (c < C)[None, :])


def first_conv(
    samples: Tensor,
    taps: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    *,
    kernel: int,
    stride: int,
) -> Tensor:
    """GELU(LayerNorm(convolution)) of float32 samples (count,), in one pass: (rows, channels).

    `taps` is (at least `kernel`, padded channels), from `padded_taps`.
    """
    rows = (len(samples) - kernel) // stride + 1
    channels = len(weight)
    out = torch.empty(rows, channels, dtype=taps.dtype, device=samples.device)
    block = block_of(samples, rows, 16)
    _first_conv_kernel[(triton.cdiv(rows, block),)](
        samples, taps, weight, bias, out, rows, eps,
        C=channels, CP=taps.shape[1], K=kernel, KP=taps.shape[0], STRIDE=stride,
        ROWS=block, EXACT=stays_float32(taps), num_warps=8,
    )  # fmt: skip
    return out


def padded_taps(weight: Tensor) -> Tensor:
    """The weight (channels, kernel) of a convolution of samples, as `first_conv` reads it."""
    channels, kernel = weight.shape
    taps = weight.new_zeros(padded_size(kernel), padded_size(channels))
    taps[:kernel, :channels] = weight.T
    return taps


@triton.jit
def _positional_kernel(
    x, taps, bias, out, slots,
    DIM: tl.constexpr, KERNEL: tl.constexpr, WIDTH: tl.constexpr, WP: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, WP)
    inside = c < WIDTH
    acc = tl.zeros((ROWS, WP), tl.float32)
    pw = taps + group * KERNEL * WP * WP + c[:, None] * WP + c[None, :]
    px = x + group * WIDTH + c[None, :]
    for t in range(KERNEL):
        r = m + t - KERNEL // 2
        there = ((r >= 0) & (r < slots))[:, None] & inside[None, :]
        acc = tl.dot(
            tl.load(px + r[:, None] * DIM, mask=there, other=0.0), tl.load(pw), acc,
            input_precision="ieee",
        )  # fmt: skip
        pw += WP * WP
    acc += tl.load(bias + group * WIDTH + c, mask=inside, other=0.0).to(tl.float32)[None, :]
    at = m[:, None] * DIM + group * WIDTH + c[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=(m < slots)[:, None] & inside[None, :])


def positional(x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """A grouped convolution that keeps the length, as one product: (slots, dim) to (slots, dim).

    `taps` is (groups, kernel, width in, width out), from `grouped_taps`; `bias` is (dim,).
    """
    slots, dim = x.shape
    groups, kernel, padded, _ = taps.shape
    out = torch.empty_like(x)
    block = block_of(x, slots, 128)
    _positional_kernel[(triton.cdiv(slots, block), groups)](
        x, taps, bias, out, slots,
        DIM=dim, KERNEL=kernel, WIDTH=dim // groups, WP=padded, ROWS=block,
        num_warps=8, num_stages=3,
    )  # fmt: skip
    return out


def grouped_taps(weight: Tensor, groups: int) -> Tensor:
    """The weight (dim, dim / groups, kernel) of a grouped convolution, as `positional` reads it."""
    _, width, kernel = weight.shape
    padded = padded_size(width)
    taps = weight.new_zeros(groups, kernel, padded, padded)
    taps[:, :, :width, :width] = weight.view(groups, width, width, kernel).permute(0, 3, 2, 1)
    return taps
