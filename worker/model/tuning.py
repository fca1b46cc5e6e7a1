"""Chooses, where there are several exact ways to compute the same, the fastest on this machine."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog
import torch
from torch import Tensor

from worker.model.convolutions import PositionalConv
from worker.model.linear import pack, packed_linear
from worker.model.model import Model
from worker.model.network import Block

log = structlog.get_logger(__name__)

ROUNDS = 5
# What has to be gained before a way is taken that is not the usual one. Other programs disturb the
# timing on a CPU, and hardly on a GPU.
LEAST_GAIN_CPU, LEAST_GAIN_GPU = 0.2, 0.05
# Packed products cost about 1 MB of programs for each of the shapes that oneDNN keeps. A small
# model is not worth that, however fast they are.
LEAST_PACKED_WEIGHTS = 1_000_000


@torch.inference_mode()
def tune(model: Model, *, rows: int = 1024) -> None:
    """Settle how the network computes on a CPU.

    Takes about a second for the large model; on the thread that will run it. `rows` is about how
    many slots a tape has. Raises what torch raises; what is not settled by then stays as it was.
    """
    if model.network.tuned:
        return
    model.network.tuned = True
    x = torch.randn(rows, model.config.embed_dim, device=model.device).to(model.dtype)
    conv = model.network.positional[0]
    assert isinstance(conv, PositionalConv)
    ways = {name: partial(way, x) for name, way in conv.ways().items()}
    winner, milliseconds = fastest(ways, model.device)
    model.network.convolve(winner)
    log.info("model.tuned", what="positional", chosen=winner, milliseconds=milliseconds)
    if can_pack(model.dtype):
        _tune_linear(model, x)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and multiplies packed matrices of this dtype on this CPU."""
    square = torch.zeros(16, 16, dtype=dtype)
    try:
        packed_linear(square, pack(square, 16))
    except (RuntimeError, AttributeError):  # the CPU lacks the instructions; torch lacks oneDNN
        return False
    return True


def fastest(
    ways: Mapping[str, Callable[[], object]],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[str, dict[str, float]]:
    """The way to keep, and the least milliseconds of each; the first one is the usual one."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, run in ways.items():
            started = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first one is warming up
                best[name] = min(best[name], 1000 * (clock() - started))
    return chosen(best, device), {name: round(each, 3) for name, each in best.items()}


def chosen(milliseconds: Mapping[str, float], device: torch.device) -> str:
    """The fastest, unless it gains too little over the first, which is the usual one."""
    usual = next(iter(milliseconds))
    winner = min(milliseconds, key=milliseconds.__getitem__)
    least_gain = LEAST_GAIN_CPU if device.type == "cpu" else LEAST_GAIN_GPU
    return winner if milliseconds[winner] <= (1 - least_gain) * milliseconds[usual] else usual


def _tune_linear(model: Model, x: Tensor) -> None:
    """By the matrices of the MLP, which are most of the work."""
    block = model.network.blocks[0]
    assert isinstance(block, Block)
    linear = block.fc1
    if linear.weight.numel() < LEAST_PACKED_WEIGHTS:
        return
    packed = pack(linear.weight, len(x))
    winner, milliseconds = fastest(
        {"plain": lambda: linear(x), "packed": lambda: packed_linear(x, packed, linear.bias)},
        model.device,
    )
    if winner == "packed":
        model.network.pack(len(x))
    log.info("model.tuned", what="linear", chosen=winner, milliseconds=milliseconds)
