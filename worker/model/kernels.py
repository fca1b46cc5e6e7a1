"""What a GPU computes in kernels of our own, in Triton: between the libraries' matrix products.

All sizes but the number of channels are arguments at run time, so that one program serves tapes of
every length. Each accumulates in float32. On tensors of a CPU they run in Triton's interpreter,
where `TRITON_INTERPRET=1` was set before this module was imported.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# An interpreter takes as long for a program as for a thousand rows.
_INTERPRETED_ROWS, _INTERPRETED_KEYS = 8192, 512
# A tensor core multiplies no fewer rows and columns than this.
LEAST_DOT = 16


@triton.jit
def _gelu(x, EXACT: tl.constexpr):
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
def _normalized(y, c, eps, C: tl.constexpr, CP: tl.constexpr):
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
    y, _ = _normalized(tl.load(x + at, mask=inside, other=0.0).to(tl.float32), c, eps, C, CP)
    if AFFINE:
        y = y * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
        y += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y = _gelu(y, EXACT)
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
    block = _block(x, rows, 2)
    _norm_gelu_kernel[(triton.cdiv(rows, block),)](
        x, weight, bias, roles, out, rows, eps,
        C=channels, CP=padded, ROWS=block,
        AFFINE=weight is not None, MASK=roles is not None, EXACT=_exact(x),
        num_warps=1 if padded <= 512 else 4,
    )  # fmt: skip
    return out


@triton.jit
def _add_norm_kernel(
    x, y, weight, bias, roles, tokens, lost, out, rows, eps,
    C: tl.constexpr, CP: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr,
    FIRST: tl.constexpr,
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
    z, variance = _normalized(z, c, eps, C, CP)
    z = z * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    z += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    finite = variance < float("inf")  # false for NaN as well
    tl.store(out + at, tl.where(finite[:, None], z, 0.0).to(out.dtype.element_ty), mask=inside)
    # Its own segment has to hear of it; the first norm of a tape writes every slot's.
    mark = tl.where(finite, 0.0, float("nan"))
    if FIRST:
        tl.store(lost + r, mark, mask=r < rows)
    else:
        tl.store(lost + r, mark, mask=(r < rows) & (finite == 0))


def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    lost: Tensor,
    *,
    roles: Tensor | None = None,
    tokens: Tensor | None = None,
) -> Tensor:
    """LayerNorm(x + y), both (slots, dim); a row that is not finite comes out as zero.

    `lost`, float32 (slots,), is NaN at such rows from then on. With `tokens` (count, dim), a slot
    whose role is −1 − i holds token i in place of the sum, and `lost` begins anew.
    """
    rows, channels = x.shape
    out = torch.empty_like(x)
    padded = triton.next_power_of_2(channels)
    block = _block(x, rows, 1)
    _add_norm_kernel[(triton.cdiv(rows, block),)](
        x, y, weight, bias, roles, tokens, lost, out, rows, eps,
        C=channels, CP=padded, ROWS=block, TOKENS=0 if tokens is None else len(tokens),
        FIRST=roles is not None, num_warps=2,
    )  # fmt: skip
    return out


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
    y, _ = _normalized(y, c, eps, C, CP)
    # Loaded no sooner: registers that wait would leave room for fewer programs.
    y = y * tl.load(weight + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    y = _gelu(y, EXACT).to(out.dtype.element_ty)
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
    block = _block(samples, rows, 16)
    _first_conv_kernel[(triton.cdiv(rows, block),)](
        samples, taps, weight, bias, out, rows, eps,
        C=channels, CP=taps.shape[1], K=kernel, KP=taps.shape[0], STRIDE=stride,
        ROWS=block, EXACT=_exact(taps), num_warps=8,
    )  # fmt: skip
    return out


def padded_taps(weight: Tensor) -> Tensor:
    """The weight (channels, kernel) of a convolution of samples, as `first_conv` reads it."""
    channels, kernel = weight.shape
    taps = weight.new_zeros(_padded(kernel), _padded(channels))
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
    block = _block(x, slots, 128)
    _positional_kernel[(triton.cdiv(slots, block), groups)](
        x, taps, bias, out, slots,
        DIM=dim, KERNEL=kernel, WIDTH=dim // groups, WP=padded, ROWS=block,
        num_warps=8, num_stages=3,
    )  # fmt: skip
    return out


def grouped_taps(weight: Tensor, groups: int) -> Tensor:
    """The weight (dim, dim / groups, kernel) of a grouped convolution, as `positional` reads it."""
    _, width, kernel = weight.shape
    padded = _padded(width)
    taps = weight.new_zeros(groups, kernel, padded, padded)
    taps[:, :, :width, :width] = weight.view(groups, width, width, kernel).permute(0, 3, 2, 1)
    return taps


@triton.jit
def _attended(score, shift, v, top, total, acc):
    """Online softmax: a block of keys with `score` + `shift` (queries,) goes into the mean."""
    higher = tl.maximum(top, tl.max(score, 1) + shift)
    fade = tl.math.exp2(top - higher)
    p = tl.math.exp2(score - (higher - shift)[:, None])
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
    return higher, total * fade + tl.sum(p, 1), acc


@triton.jit
def _attention_kernel(
    qkv, first_seen, after_last, slope, out, slots, extra, scale,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr,
    FINITE: tl.constexpr,
):  # fmt: skip
    # Heads vary fastest: the programs of one block of slots read the same lines of memory.
    h = tl.program_id(0) % HEADS
    own = tl.program_id(0) // HEADS
    m = own * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, DP)
    row: tl.constexpr = 3 * HEADS * D
    log2e: tl.constexpr = 1.4426950408889634
    q_slot = tl.minimum(m, slots - 1)
    first = tl.load(first_seen + q_slot)
    last = tl.load(after_last + q_slot)
    q = tl.load(qkv + q_slot[:, None] * row + h * D + d[None, :], mask=d[None, :] < D, other=0.0)
    keys = qkv + (HEADS + h) * D
    values = keys + HEADS * D
    unit = scale * log2e
    bias = tl.load(slope + h) * log2e
    # Places are counted from the block's own, in float32: distances and comparisons are an
    # instruction each. An extra token's query has no bias: its frames begin beyond all.
    place = (q_slot - own * BLOCK).to(tl.float32)
    frames = tl.where(q_slot >= first + extra, first + extra - own * BLOCK, 1 << 24)
    frames_from = frames.to(tl.float32)
    seen_from = (first - own * BLOCK).to(tl.float32)
    seen_to = (last - own * BLOCK).to(tl.float32)
    top = tl.full((BLOCK,), -1e30, tl.float32)  # finite: a block may be hidden from a whole row
    total = tl.zeros((BLOCK,), tl.float32)
    acc = tl.zeros((BLOCK, DP), tl.float32)
    # Both ends only grow along the tape: a block of queries sees one run of blocks of keys.
    start = tl.min(first, 0)
    first_block = start // BLOCK
    blocks = tl.cdiv(tl.max(last, 0), BLOCK) - first_block
    # Where all queries are frames of one segment, only the blocks of its tokens and their own one
    # need distances and bounds of every pair.
    one = (tl.max(first, 0) == start) & (tl.min(q_slot, 0) >= start + extra)
    tokens = tl.minimum(tl.cdiv(start + extra, BLOCK), own) - first_block
    paired = tl.where(one, tokens + 1, blocks)
    for number in range(0, paired):
        block = tl.where(one & (number == tokens), own, first_block + number)
        n = block * BLOCK + tl.arange(0, BLOCK)
        there = (n < slots)[None, :] & (d < D)[:, None]
        k = tl.load(keys + n[None, :] * row + d[:, None], mask=there, other=0.0)
        key = (n - own * BLOCK).to(tl.float32)[None, :]
        far = tl.abs(place[:, None] - key) * bias
        score = tl.dot(q, k, input_precision="ieee") * unit
        score -= tl.where(key >= frames_from[:, None], far, 0.0)
        seen = (key >= seen_from[:, None]) & (key < seen_to[:, None])
        score = tl.where(seen, score, float("-inf"))
        there = (n < slots)[:, None] & (d < D)[None, :]
        v = tl.load(values + n[:, None] * row + d[None, :], mask=there, other=0.0)
        v = v if FINITE else tl.where(tl.abs(v.to(tl.float32)) < float("inf"), v, 0.0)
        top, total, acc = _attended(score, tl.zeros_like(top), v, top, total, acc)
    # In all other blocks every key is on the same side of every query. There the distance is a
    # difference: one term for each key, and one for each query, which leaves the pairs alone.
    end = (tl.max(last, 0) - own * BLOCK).to(tl.float32)
    for number in range(0, blocks - paired):
        block = first_block + tokens + number
        block += (block >= own).to(tl.int32)
        slope_there = tl.where(block < own, bias, -bias)
        n = block * BLOCK + tl.arange(0, BLOCK)
        there = (n < slots)[None, :] & (d < D)[:, None]
        k = tl.load(keys + n[None, :] * row + d[:, None], mask=there, other=0.0)
        key = (n - own * BLOCK).to(tl.float32)
        of_key = tl.where(key < end, key * slope_there, float("-inf"))
        score = tl.dot(q, k, input_precision="ieee") * unit + of_key[None, :]
        score = score if FINITE else tl.where((key < end)[None, :], score, float("-inf"))
        there = (n < slots)[:, None] & (d < D)[None, :]
        v = tl.load(values + n[:, None] * row + d[None, :], mask=there, other=0.0)
        v = v if FINITE else tl.where(tl.abs(v.to(tl.float32)) < float("inf"), v, 0.0)
        top, total, acc = _attended(score, -place * slope_there, v, top, total, acc)
    acc = acc / total[:, None]
    if not FINITE:  # what was taken out is missed in its own row
        mine = values + q_slot[:, None] * row + d[None, :]
        v = tl.load(mine, mask=d[None, :] < D, other=0.0).to(tl.float32)
        acc += v - v
    at = m[:, None] * (HEADS * D) + h * D + d[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=(m < slots)[:, None] & (d < D)[None, :])


def attention(
    qkv: Tensor, spans: Tensor, slopes: Tensor, extra_tokens: int, *, finite: bool = True
) -> Tensor:
    """Attention within segments, with ALiBi.

    (slots, 3, heads, head_dim) to (slots, heads × head_dim). `spans` is int32 (2, slots), see
    `TapeLayout.spans`; `slopes` float32 (heads,). What a slot does not see is in its blocks with
    weight 0, and 0 × NaN is NaN: where not all of qkv is known to be `finite`, values that are not
    are taken out, and leave NaN in their own rows; that takes a fifth longer.
    """
    slots, _, heads, width = qkv.shape
    out = torch.empty(slots, heads * width, dtype=qkv.dtype, device=qkv.device)
    # No more than the registers hold, in float32 as well.
    block = 64 if qkv.element_size() == 2 else 32
    if _interpreted(qkv):
        block = _INTERPRETED_KEYS
    _attention_kernel[(triton.cdiv(slots, block) * heads,)](
        qkv, spans[0], spans[1], slopes, out, slots, extra_tokens, width**-0.5,
        HEADS=heads, D=width, DP=_padded(width), BLOCK=block, FINITE=finite,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return out


@triton.jit
def _means_kernel(
    x, edges, lost, out, segments, extra,
    C: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    segment = tl.program_id(0)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = tl.load(edges + segment)
    stop = tl.load(edges + segments + segment)
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    # Its tokens are no part of the mean, but its frames have seen them.
    for first in range(tl.where(start < stop, start - extra, stop), stop, ROWS):
        r = (first + tl.arange(0, ROWS)).to(tl.int64)
        there = ((r >= start) & (r < stop))[:, None] & (c < C)[None, :]
        acc += tl.load(x + r[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
        acc += tl.load(lost + r, mask=r < stop, other=0.0)[:, None]
    mean = tl.sum(acc, 0) / tl.maximum(stop - start, 1)
    tl.store(out + segment * C + c, mean, mask=c < C)


def means(x: Tensor, edges: Tensor, lost: Tensor, extra_tokens: int) -> Tensor:
    """The mean of each segment's rows of x (slots, dim): float32 (segments, dim).

    `edges` is int32 (2, segments): the first row of each, and the one after the last; 0 for those
    that are not there. A segment has no mean but NaN where one of its rows, or of the extra tokens
    before them, is `lost` (slots,).
    """
    segments, channels = edges.shape[1], x.shape[1]
    out = torch.empty(segments, channels, dtype=torch.float32, device=x.device)
    columns = 64
    _means_kernel[(segments, triton.cdiv(channels, columns))](
        x,
        edges,
        lost,
        out,
        segments,
        extra_tokens,
        C=channels,
        COLUMNS=columns,
        ROWS=64,
        num_warps=4,
    )
    return out


def _block(x: Tensor, rows: int, on_gpu: int) -> int:
    """Rows that a program takes, of so many."""
    return min(_INTERPRETED_ROWS, _padded(rows)) if _interpreted(x) else on_gpu


def _interpreted(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _exact(x: Tensor) -> bool:
    """Whether a result stays float32: one that is rounded to 16 bits has no use for more."""
    return x.dtype is torch.float32


def _padded(size: int) -> int:
    padded: int = triton.next_power_of_2(size)
    return max(LEAST_DOT, padded)
