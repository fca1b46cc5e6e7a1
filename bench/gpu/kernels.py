"""Each kernel beside what else computes the same, on a tape of the full length, in float16."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.device import microseconds, model
from bench.gpu.found import Found
from worker.clip import SAMPLE_RATE_HZ, frame_samples, num_frames
from worker.engine.graphs import Rung
from worker.model import kernels
from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.gpu_tuning import FRONT_END_FRAMES
from worker.model.model import Model
from worker.model.network import Block
from worker.model.tape_operations import GpuNetwork
from worker.tape import TapeLayout, num_samples


def measure(found: Found, *, dry: bool) -> None:
    """Microseconds, TFLOP/s of products and GB/s of what only passes over memory."""
    slots = 400 if dry else 16_384
    for name, call in _CEILINGS.items():
        found.step(name, call)
    with torch.inference_mode():
        bench = _Bench(model(), slots)
        for add in (bench.blocks, bench.tape, bench.convolutions):
            add()
        for name, row in bench.rows.items():
            found.step(name, row)


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


class _Bench:
    """A model's parts, and a row for each way to compute them."""

    def __init__(self, one: Model, slots: int) -> None:
        self.rows: dict[str, Callable[[], dict[str, float]]] = {}
        self._model, self._gpu, self._slots = one, GpuNetwork(one), slots
        self._rung = Rung(one, self._gpu, slots)
        self._ops = self._rung._operations
        self._usual = self._gpu.ways
        self._x = self._random(slots, one.config.embed_dim)

    def blocks(self) -> None:
        """The products of a block, and what stands between them."""
        block, x, ops = self._model.network.blocks[0], self._x, self._ops
        assert isinstance(block, Block)
        hidden = self._random(self._slots, self._model.config.mlp_dim)
        products = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.fc1}
        for name, linear in {**products, "fc2": block.fc2}.items():
            flop = 2.0 * self._slots * linear.weight.numel()
            into = hidden if name == "fc2" else x
            self._add(f"product {name}", partial(linear, into), flop=flop)
        norm = block.norm1
        self._add("add and norm", lambda: ops.add_norm(x, x, norm), moved=6.0 * x.numel())
        self._add("add and norm, torch", lambda: norm(x + x), moved=6.0 * x.numel())
        for way in ("epilogue", "apart"):
            run = partial(ops.linear_gelu, block.fc1, x)
            self._add(f"fc1 with GELU: {way}", self._with(run, gelu=way))

    def tape(self) -> None:
        """Attention and means, with short clips and with whole windows."""
        config, slots = self._model.config, self._slots
        dim, heads = config.embed_dim, config.num_heads
        qkv = self._random(slots, 3, heads, dim // heads)
        for seconds in (5, 30):
            frames = min(num_frames(SAMPLE_RATE_HZ * seconds), slots - config.gap)
            count = slots // (config.gap + frames)
            layout = TapeLayout(
                gap=config.gap,
                extra_tokens=config.num_extra_tokens,
                frames=(frames,) * count,
                tail=slots - count * (config.gap + frames),
            )
            tables = self._rung.tables
            about = torch.from_numpy(tables.of(layout)).to(self._model.device)
            _, edges, blocks = tables.parts(about)
            attend = partial(kernels.attention, qkv, blocks, self._gpu.slopes[0])
            self._add(
                f"attention, clips of {seconds} s",
                partial(attend, config.num_extra_tokens),
                flop=4.0 * count * (config.num_extra_tokens + frames) ** 2 * dim,
            )
            mean = partial(kernels.means, self._x, edges)
            self._add(f"means, clips of {seconds} s", mean, moved=2.0 * self._x.numel())

    def convolutions(self) -> None:
        """The front end as a whole and its first layer, and a positional layer."""
        network, ops = self._model.network, self._ops
        conv, first = network.positional[0], network.front_end[0]
        assert isinstance(conv, PositionalConv)
        assert isinstance(first, FrontEndConv)
        roles = torch.zeros(self._slots, dtype=torch.int32, device=self._model.device)
        for way in ("kernel", "convolution", "channels_last"):
            run = self._with(partial(ops.positional, conv, self._x, roles), positional=way)
            self._add(f"positional with norm, GELU and mask: {way}", run)
        samples = torch.randn(num_samples(self._slots), device=self._model.device)
        for way, frames in product(("convolution", "products"), FRONT_END_FRAMES):
            run = partial(network.frames, samples, self._slots, ops)
            ways = {"front_end": way, "front_end_frames": frames}
            self._add(f"front end: {way}, {frames} frames", self._with(run, **ways))
        piece = samples[: frame_samples(min(self._slots, FRONT_END_FRAMES[-1])), None]
        wide, norm = ops.front_end(first, piece), first.norm
        moved = 2.0 * wide.numel()
        self._add("first convolution", lambda: ops.front_end(first, piece), moved=moved)
        affine = partial(kernels.norm_gelu, wide, norm.weight, norm.bias, norm.eps)
        self._add("norm and GELU", affine, moved=2 * moved)
        self._add("norm and GELU, torch", lambda: F.gelu(norm(wide)), moved=2 * moved)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self._model.device).to(self._model.dtype)

    def _with(self, call: Callable[[], object], **ways: Any) -> Callable[[], object]:
        def run() -> object:
            self._gpu.ways = replace(self._usual, **ways)
            try:
                return call()
            finally:
                self._gpu.ways = self._usual

        return run

    def _add(
        self, name: str, call: Callable[[], object], *, flop: float = 0, moved: float = 0
    ) -> None:
        self.rows[name] = partial(_row, call, flop=flop, moved=moved)
