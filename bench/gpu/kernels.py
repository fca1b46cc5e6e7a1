"""Each kernel beside what else computes the same, on a tape of the full length, in float16."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.device import microseconds, model
from bench.gpu.found import Found
from worker.clip import frame_samples, num_frames
from worker.graphs import Rung
from worker.model import kernels
from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.gpu_tuning import FRONT_END_FRAMES
from worker.model.network import Block
from worker.model.tape_operations import GpuNetwork
from worker.tape import TapeLayout, num_samples


def measure(found: Found, *, dry: bool) -> None:
    """Microseconds, TFLOP/s of products and GB/s of what only passes over memory."""
    slots = 400 if dry else 16_384
    for name, call in _CEILINGS.items():
        found.step(name, call)
    one = model()
    gpu = GpuNetwork(one)
    with torch.inference_mode():
        for name, rows in _rows(one, gpu, slots):
            found.step(name, rows)


def _copy() -> dict[str, float]:
    x = torch.empty(2**29 if torch.cuda.is_available() else 2**10, dtype=torch.uint8)
    x = x.to("cuda" if torch.cuda.is_available() else "cpu")
    y = torch.empty_like(x)
    return _row(lambda: y.copy_(x), moved=2 * x.numel())


def _product() -> dict[str, float]:
    cuda = torch.cuda.is_available()
    a, b = torch.randn(2, 8192 if cuda else 64, 8192 if cuda else 64).to(
        "cuda" if cuda else "cpu", torch.float16
    )
    return _row(lambda: a @ b, flop=2.0 * len(a) ** 3)


_CEILINGS = {"copy": _copy, "product 8192": _product}


def _row(call: Callable[[], object], *, flop: float = 0, moved: float = 0) -> dict[str, float]:
    us = microseconds(call)
    row = {"us": us}
    if flop:
        row["tflop_a_second"] = flop / us / 1e6
    if moved:
        row["gb_a_second"] = moved / us / 1e3
    print({name: round(value, 1) for name, value in row.items()}, flush=True)
    return row


def _rows(one: Any, gpu: GpuNetwork, slots: int) -> list[tuple[str, Callable[[], Any]]]:
    network, config = one.network, one.config
    conv, block, first = network.positional[0], network.blocks[0], network.front_end[0]
    assert isinstance(conv, PositionalConv)
    assert isinstance(block, Block)
    assert isinstance(first, FrontEndConv)
    dim, heads = config.embed_dim, config.num_heads

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=one.device).to(one.dtype)

    x, hidden = random(slots, dim), random(slots, config.mlp_dim)
    samples = torch.randn(num_samples(slots), device=one.device)
    rung = Rung(one, gpu, slots)
    ops = rung._operations
    roles = torch.zeros(slots, dtype=torch.int32, device=one.device)
    qkv = random(slots, 3, heads, dim // heads)
    rows: list[tuple[str, Callable[[], Any]]] = []

    def add(name: str, call: Callable[[], object], *, flop: float = 0, moved: float = 0) -> None:
        rows.append((name, lambda: _row(call, flop=flop, moved=moved)))

    weights = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.fc1, "fc2": block.fc2}
    for name, linear in weights.items():
        into = hidden if name == "fc2" else x
        flop = 2.0 * slots * linear.weight.numel()
        add(f"product {name}", lambda linear=linear, into=into: linear(into), flop=flop)
    norm = block.norm1
    add("add and norm", lambda: ops.add_norm(x, x, norm), moved=6.0 * x.numel())
    add("add and norm, torch", lambda: norm(x + x), moved=6.0 * x.numel())
    usual = gpu.ways

    def with_ways(name: str, call: Callable[[], object], **ways: Any) -> None:
        def run() -> object:
            gpu.ways = replace(usual, **ways)
            try:
                return call()
            finally:
                gpu.ways = usual

        add(name, run)

    for way in ("epilogue", "apart"):
        with_ways(f"fc1 with GELU: {way}", lambda: ops.linear_gelu(block.fc1, x), gelu=way)
    for way in ("kernel", "convolution", "channels_last"):
        with_ways(
            f"positional with norm, GELU and mask: {way}",
            lambda: ops.positional(conv, x, roles),
            positional=way,
        )
    for seconds in (5, 30):
        frames = min(num_frames(16_000 * seconds), slots - config.gap)
        count = slots // (config.gap + frames)
        layout = TapeLayout(
            gap=config.gap,
            extra_tokens=config.num_extra_tokens,
            frames=(frames,) * count,
            tail=slots - count * (config.gap + frames),
        )
        about = torch.from_numpy(rung.describe(layout)).to(one.device)
        spans = about[slots : 3 * slots].view(2, slots)
        edges = about[3 * slots :].view(2, rung.segments)
        flop = 4.0 * count * (config.num_extra_tokens + frames) ** 2 * dim
        add(
            f"attention, clips of {seconds} s",
            lambda spans=spans: kernels.attention(qkv, spans, gpu.slopes[0], 10),
            flop=flop,
        )
        lost = torch.zeros(slots, device=one.device)
        add(
            f"means, clips of {seconds} s",
            lambda edges=edges, lost=lost: kernels.means(x, edges, lost),
            moved=2.0 * x.numel(),
        )
    for way, frames in product(("convolution", "products"), FRONT_END_FRAMES):
        with_ways(
            f"front end: {way}, {frames} frames",
            lambda: network.frames(samples, slots, ops),
            front_end=way,
            front_end_frames=frames,
        )
    part = min(slots, FRONT_END_FRAMES[-1])
    piece = samples[: frame_samples(part), None]
    wide = ops.front_end(first, piece)
    add("first convolution", lambda: ops.front_end(first, piece), moved=2.0 * wide.numel())
    affine = (first.norm.weight, first.norm.bias, first.norm.eps)
    add("norm and GELU", lambda: kernels.norm_gelu(wide, *affine), moved=4.0 * wide.numel())
    add("norm and GELU, torch", lambda: F.gelu(first.norm(wide)), moved=4.0 * wide.numel())
    return rows
