"""What stays within a segment of the tape: attention, and means."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from worker.model.kernels.launch import interpreted, padded_size

_INTERPRETED_KEYS = 512  # of a block, where programs are interpreted


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
    if interpreted(qkv):
        block = min(_INTERPRETED_KEYS, padded_size(slots))
    _attention_kernel[(triton.cdiv(slots, block) * heads,)](
        qkv, spans[0], spans[1], slopes, out, slots, extra_tokens, width**-0.5,
        HEADS=heads, D=width, DP=padded_size(width), BLOCK=block, FINITE=finite,
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
