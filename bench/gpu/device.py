"""The device at hand, and how long something takes on it."""

import math
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from worker.model.model import Model
from worker.model.synthetic import synthetic
from worker.telemetry.gpu import Gpus, NoGpu, opened

_ROUNDS = 5
_ROUND_MS = 20.0
_MOST_RUNS = 50


def device() -> torch.device:
    """The first GPU; the CPU where there is none."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def model(dtype: torch.dtype | None = None) -> Model:
    """`random:large`, in float16; `random:tiny` on a CPU."""
    large = torch.cuda.is_available()
    dtype = dtype or torch.float16
    return synthetic("large" if large else "tiny", device=device(), dtype=dtype)


def microseconds(call: Callable[[], object]) -> float:
    """Of one call, as part of a captured graph; NaN on a CPU, where it is called once."""
    if not torch.cuda.is_available():
        call()
        return math.nan
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types
    began, ended = event(), event()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
        began.record()
        call()
        ended.record()
    ended.synchronize()
    runs = max(1, min(_MOST_RUNS, int(_ROUND_MS / max(0.02, began.elapsed_time(ended)))))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
        for _ in range(runs):
            call()
    took = []
    with torch.cuda.stream(stream):
        for _ in range(_ROUNDS):
            began.record()
            graph.replay()
            ended.record()
            ended.synchronize()
            took.append(1000 * began.elapsed_time(ended) / runs)
    return float(statistics.median(took))


def event() -> torch.cuda.Event:
    """One whose time can be asked for."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types


def facts() -> dict[str, Any]:
    """What `nvidia-smi` says of the device."""
    asked = ("name", "driver_version", "clocks.max.sm", "power.limit", "memory.total")
    command = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(asked, (each.strip() for each in said.splitlines()[0].split(",")), strict=True))


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """While it lasts, what NVML says five times a second; the means are there when it has ended."""
    seen: dict[str, float] = {}
    with ExitStack() as stack:
        try:
            gpus = stack.enter_context(opened())
        except NoGpu:  # nothing is said
            yield seen
            return
        with _watching(gpus) as rows:
            yield seen
        if rows:
            names = ("watts", "sm_mhz", "utilization_percent")
            means = (statistics.mean(column) for column in zip(*rows, strict=True))
            seen.update(zip(names, means, strict=True))


@contextmanager
def _watching(gpus: Gpus) -> Iterator[list[tuple[float, float, float]]]:
    """Watts, megahertz and percent of the first GPU, five times a second."""
    over = threading.Event()
    rows: list[tuple[float, float, float]] = []

    def watch() -> None:
        while not over.wait(0.2):
            gpu = gpus.all()[0]
            rows.append((gpu.watts or 0.0, gpu.sm_mhz or 0.0, 100 * (gpu.utilization or 0.0)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield rows
    finally:
        over.set()
        thread.join()
