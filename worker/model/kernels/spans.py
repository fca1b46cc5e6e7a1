"""What stays within a segment of the tape: attention, and means."""

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from worker.model.kernels.launch import interpreted, padded_size
from worker.tape import TapeLayout

_INTERPRETED_BLOCK = 512  # queries, and keys, where programs are interpreted
# Blocks of queries that have a program each: so many at least, and in segments of a second or more.
_LEAST_BLOCKS, _SLOTS_A_BLOCK = 256, 32
_PROGRAMS_FOR_THE_REST = 16  # for each head


@triton.jit
def _attended(score, shift, v, top, total, acc):
    """Online softmax: a block of keys with `score` + `shift` (queries,) goes into the mean."""
    higher = tl.maximum(top, tl.max(score, 1) + shift)
    fade = tl.math.exp2(top - higher)
    p = tl.math.exp2(score - (higher - shift)[:, None])
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
    return higher, total * fade + tl.sum(p, 1), acc


@triton.jit
def _attend(
    qkv, out, h, queries, stop, first, last, bias, unit,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, EXTRA: tl.constexpr,
    EXTRAP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, FRAMES: tl.constexpr,
):  # fmt: skip
    # Queries from `queries` to `stop`, of the segment from `first` to `last`: frames, or tokens.
    row: tl.constexpr = 3 * HEADS * D
    d = tl.arange(0, DP)
    m = queries + tl.arange(0, QUERIES)
    inside = (m < stop)[:, None] & (d < D)[None, :]
    q = tl.load(qkv + m[:, None] * row + h * D + d[None, :], mask=inside, other=0.0)
    keys = qkv + (HEADS + h) * D
    values = keys + HEADS * D
    # Places are counted from the block's own first query, in float32: a distance is an instruction.
    place = tl.arange(0, QUERIES).to(tl.float32)
    frames = first + EXTRA
    top = tl.full((QUERIES,), -1e30, tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    acc = tl.zeros((QUERIES, DP), tl.float32)
    level = tl.zeros((QUERIES,), tl.float32)
    if EXTRA > 0:  # tokens are as near to all
        t = first + tl.arange(0, EXTRAP)
        k = tl.load(
            keys + t[None, :] * row + d[:, None],
            mask=(t < frames)[None, :] & (d < D)[:, None], other=0.0,
        )  # fmt: skip
        v = tl.load(
            values + t[:, None] * row + d[None, :],
            mask=(t < frames)[:, None] & (d < D)[None, :], other=0.0,
        )  # fmt: skip
        of_tokens = tl.dot(q, k, input_precision="ieee") * unit
        of_tokens = tl.where((t < frames)[None, :], of_tokens, float("-inf"))
        top, total, acc = _attended(of_tokens, level, v, top, total, acc)
    blocks = tl.cdiv(last - frames, KEYS)
    own = blocks
    if FRAMES:  # in their own block there are keys on both sides: distances of every pair
        own = (queries - frames) // KEYS
        k_own = tl.load(
            keys + m[None, :] * row + d[:, None],
            mask=(m < last)[None, :] & (d < D)[:, None], other=0.0,
        )  # fmt: skip
        v_own = tl.load(values + m[:, None] * row + d[None, :], mask=inside, other=0.0)
        far = tl.abs(place[:, None] - place[None, :]) * bias
        of_own = tl.dot(q, k_own, input_precision="ieee") * unit - far
        of_own = tl.where((m < last)[None, :], of_own, float("-inf"))
        top, total, acc = _attended(of_own, level, v_own, top, total, acc)
        blocks -= 1
    # In all others every key is on the same side of every query. There the distance is a
    # difference: one term for each key, and one for each query, which leaves the pairs alone.
    for number in range(0, blocks):
        block = number + (number >= own).to(tl.int32)
        slope = tl.where(block < own, bias, -bias)
        n = frames + block * KEYS + tl.arange(0, KEYS)
        there = (n < last)[None, :] & (d < D)[:, None]
        k_there = tl.load(keys + n[None, :] * row + d[:, None], mask=there, other=0.0)
        of_key = tl.where(n < last, (n - queries).to(tl.float32) * slope, float("-inf"))
        score = tl.dot(q, k_there, input_precision="ieee") * unit + of_key[None, :]
        there_too = (n < last)[:, None] & (d < D)[None, :]
        v_there = tl.load(values + n[:, None] * row + d[None, :], mask=there_too, other=0.0)
        top, total, acc = _attended(score, -place * slope, v_there, top, total, acc)
    at = m[:, None] * (HEADS * D) + h * D + d[None, :]
    tl.store(out + at, (acc / total[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _attend_block(
    qkv, blocks, number, slope, out, most, scale,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, EXTRA: tl.constexpr,
    EXTRAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Heads vary fastest: the programs of one block of slots read the same lines of memory.
    h = tl.program_id(0) % HEADS
    log2e: tl.constexpr = 1.4426950408889634
    unit = scale * log2e
    bias = tl.load(slope + h) * log2e
    about = blocks + 1 + number
    queries = tl.load(about)
    first = tl.load(about + most)
    last = tl.load(about + 2 * most)
    if queries < first + EXTRA:
        _attend(
            qkv, out, h, queries, first + EXTRA, first, last, 0.0, unit,
            HEADS, D, DP, EXTRA, EXTRAP, EXTRAP, BLOCK, False,
        )  # fmt: skip
    else:
        _attend(
            qkv, out, h, queries, tl.minimum(queries + BLOCK, last), first, last, bias, unit,
            HEADS, D, DP, EXTRA, EXTRAP, BLOCK, BLOCK, True,
        )  # fmt: skip


@triton.jit
def _attention_kernel(
    qkv, blocks, slope, out, before, most, scale,
    HEADS: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, EXTRA: tl.constexpr,
    EXTRAP: tl.constexpr, BLOCK: tl.constexpr, LOOP: tl.constexpr,
):  # fmt: skip
    number = before + tl.program_id(0) // HEADS
    count = tl.load(blocks)
    if LOOP:  # takes twice the registers
        for each in range(number, count, tl.num_programs(0) // HEADS):
            _attend_block(
                qkv, blocks, each, slope, out, most, scale, HEADS, D, DP, EXTRA, EXTRAP, BLOCK
            )
    elif number < count:
        _attend_block(
            qkv, blocks, number, slope, out, most, scale, HEADS, D, DP, EXTRA, EXTRAP, BLOCK
        )


def attention(qkv: Tensor, blocks: Tensor, slopes: Tensor, extra_tokens: int) -> Tensor:
    """Attention within segments, with ALiBi.

    (slots, 3, heads, head_dim) to (slots, heads × head_dim). `blocks` is int32 (1 + 3 × most,):
    `attention_blocks` of `block_size` queries; `slopes` float32 (heads,). A segment reads its own
    slots alone, so what is not finite stays where it is. Slots of no segment are not written.
    """
    slots, _, heads, width = qkv.shape
    out = torch.empty(slots, heads * width, dtype=qkv.dtype, device=qkv.device)
    most = len(blocks) // 3
    # A program for each block that speech has; where there are more, segments being far shorter,
    # others take what is left in turns.
    usual = min(most, max(_LEAST_BLOCKS, triton.cdiv(slots, _SLOTS_A_BLOCK)))
    for before, programs in ((0, usual), (usual, min(most - usual, _PROGRAMS_FOR_THE_REST))):
        if programs:
            _attention_kernel[(programs * heads,)](
                qkv, blocks, slopes, out, before, most, width**-0.5,
                HEADS=heads, D=width, DP=padded_size(width), EXTRA=extra_tokens,
                EXTRAP=padded_size(extra_tokens),
                BLOCK=block_size(qkv.dtype, qkv.device, slots), LOOP=before > 0,
                num_warps=4 if qkv.element_size() == 2 else 8, num_stages=1 if before else 3,
            )  # fmt: skip
    return out


def block_size(dtype: torch.dtype, device: torch.device, slots: int) -> int:
    """Queries that a program of `attention` takes."""
    if interpreted(device):
        return min(_INTERPRETED_BLOCK, padded_size(slots))
    # No more than the registers hold, in float32 as well.
    return 64 if dtype.itemsize == 2 else 32


def most_blocks(slots: int, segments: int, size: int) -> int:
    """How many blocks of queries the segments of a tape have at most: tokens are one."""
    return 2 * segments + slots // size


def attention_blocks(layout: TapeLayout, size: int, most: int) -> NDArray[np.int32]:
    """What `attention` does for a tape: int32 (1 + 3 × most,).

    How many blocks there are; then of each the first slot of its queries, the first slot that they
    see, and the one after the last. Blocks begin where tokens and frames of a segment do, so that a
    segment is computed in the same steps wherever it lies.
    """
    tokens = int(layout.extra_tokens > 0)
    counts = -(-np.array(layout.frames, dtype=np.int32) // size) + tokens
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    frames, last = np.repeat(layout.frame_edges(), counts, axis=1)
    first = frames - layout.extra_tokens
    table = np.zeros((3, most), dtype=np.int32)
    table[:, : len(numbers)] = (
        np.where(numbers < tokens, first, frames + (numbers - tokens) * size),
        first,
        last,
    )
    return np.concatenate([[len(numbers)], table.ravel()]).astype(np.int32)


@triton.jit
def _means_kernel(
    x, edges, out, segments, C: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    segment = tl.program_id(0)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = tl.load(edges + segment)
    stop = tl.load(edges + segments + segment)
    acc = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(start, stop, ROWS):
        r = (first + tl.arange(0, ROWS)).to(tl.int64)
        there = (r < stop)[:, None] & (c < C)[None, :]
        acc += tl.load(x + r[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32)
    mean = tl.sum(acc, 0) / tl.maximum(stop - start, 1)
    tl.store(out + segment * C + c, mean, mask=c < C)


def means(x: Tensor, edges: Tensor) -> Tensor:
    """The mean of each segment's rows of x (slots, dim): float32 (segments, dim).

    `edges` is int32 (2, segments): the first row of each, and the one after the last; 0 for those
    that are not there.
    """
    segments, channels = edges.shape[1], x.shape[1]
    out = torch.empty(segments, channels, dtype=torch.float32, device=x.device)
    columns = 64
    _means_kernel[(segments, triton.cdiv(channels, columns))](
        x, edges, out, segments, C=channels, COLUMNS=columns, ROWS=64, num_warps=4
    )
    return out
