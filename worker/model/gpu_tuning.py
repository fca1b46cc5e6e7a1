"""Chooses the ways of a `GpuNetwork` on the device at hand, in the form in which they will run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import structlog
import torch

from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.model import Model
from worker.model.network import Block
from worker.model.tape_operations import GpuNetwork, TapeOperations, Ways
from worker.model.tuning import chosen, fastest
from worker.tape import num_samples

log = structlog.get_logger(__name__)

# Frames of the front end at a time; below the first, too little runs at once to fill a large GPU.
FRONT_END_FRAMES = (1024, 2048, 4096)


@torch.inference_mode()
def tune_gpu(model: Model, gpu: GpuNetwork, *, rows: int) -> None:
    """Settle `gpu.ways` for tapes of about `rows` slots, one part after the other.

    Ways that fail here, or for which there is no memory, are passed over. Raises what else the
    device raises; what is not settled by then is the usual way.
    """
    for what, run, choices in _parts(model, gpu, rows):
        usual = gpu.ways
        milliseconds: dict[str, float] = {}
        named: dict[str, Ways] = {}
        try:
            # The usual one first: it is kept, where another gains little. One after the other, so
            # that none lacks the memory that another holds.
            for choice in sorted(choices, key=lambda choice: choice != usual):
                name = _name(what, choice)
                try:
                    once = _captured(partial(_run_as, gpu, choice, run), model.device)
                    milliseconds |= fastest({name: once}, model.device)[1]
                    named[name] = choice
                except RuntimeError as error:
                    log.warning("model.way_failed", what=what, way=name, error=str(error))
        finally:
            gpu.ways = usual
        if named:
            winner = chosen(milliseconds, model.device)
            gpu.ways = named[winner]
            log.info("model.tuned", what=what, chosen=winner, milliseconds=milliseconds)


def _parts(
    model: Model, gpu: GpuNetwork, rows: int
) -> Iterator[tuple[str, Callable[[], object], list[Ways]]]:
    """What is chosen, how it is run as `gpu.ways` say, and the choices."""
    network, device = model.network, model.device
    x = torch.randn(rows, model.config.embed_dim, device=device).to(model.dtype)
    roles = torch.zeros(rows, dtype=torch.int32, device=device)
    nobody = roles[:0]
    ops = TapeOperations(gpu, roles=roles, blocks=nobody, edges=nobody.view(2, 0))
    conv, block, first = network.positional[0], network.blocks[0], network.front_end[0]
    assert isinstance(conv, PositionalConv)
    assert isinstance(block, Block)
    assert isinstance(first, FrontEndConv)

    usual = gpu.ways
    positional = ["kernel"] * bool(gpu.positional_taps) + list(conv.ways())
    yield (
        "positional",
        partial(ops.positional, conv, x, roles),
        [replace(usual, positional=way) for way in positional],
    )
    if model.dtype is not torch.float32:
        usual = gpu.ways
        yield (
            "gelu",
            partial(ops.linear_gelu, block.fc1, x),
            [replace(usual, gelu=way) for way in ("epilogue", "apart")],
        )
    usual = gpu.ways
    samples = torch.randn(num_samples(rows), device=device)
    yield (
        "front_end",
        partial(network.frames, samples, rows, ops),
        [
            replace(usual, front_end=way, front_end_frames=frames)
            for way, frames in product(first.ways(), FRONT_END_FRAMES)
        ],
    )


def _run_as(gpu: GpuNetwork, ways: Ways, run: Callable[[], object]) -> None:
    gpu.ways = ways
    run()


def _name(what: str, ways: Ways) -> str:
    if what == "front_end":
        return f"{ways.front_end}, {ways.front_end_frames} frames"
    return str(getattr(ways, what))


def _captured(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The same as a CUDA graph: what is chosen runs as part of one, without Python between."""
    if device.type != "cuda":
        return run
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()  # compiles, and lets libraries allocate what they need
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with (
        torch.cuda.stream(stream),
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        run()
    return graph.replay
