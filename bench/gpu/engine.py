"""The engine alone: readiness, latency, every rung, throughput, and a full tape by kernel."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog
import torch

from bench.gpu.device import device, event, facts, model, watched
from bench.gpu.found import Found
from storage.percentiles import P99, percentile
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.engine import fill, predict, segments_of
from worker.bench.timing import repeat
from worker.clip import SAMPLE_RATE_HZ
from worker.engine.engine import Engine
from worker.engine.graphs import GraphLadder
from worker.tape import Segment

_KERNELS_SHOWN = 30
_TAPES = 60


def measure(found: Found, *, dry: bool) -> None:
    """From an engine that is not warm yet to where the time of a tape goes."""
    found.keep(torch=torch.__version__, device=str(device()), nvidia={} if dry else facts())
    if dry:
        engine = Engine(model(), tape_slots=300, window_seconds=1)
        engine._graphs = False
    else:
        engine = Engine(model())
    with structlog.testing.capture_logs() as logs:
        began = time.monotonic()
        tape_seconds = engine.warm_up()
    found.keep(
        warm_up_seconds=time.monotonic() - began,
        full_tape_seconds=tape_seconds,
        tape_slots=engine.tape_slots,
        logs=[{k: v for k, v in entry.items() if k != "exc_info"} for entry in logs],
    )
    if not dry:
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        found.keep(memory_gb={"allocated": allocated / 1e9, "reserved": reserved / 1e9})
    seconds = 0.05 if dry else 2.0
    five = _clips(Lengths.FIVE, 1 if dry else 63)
    found.step("one_clip_5s", lambda: _latency(engine, five[:1], seconds))
    for lengths in Lengths:
        found.step(
            f"throughput_{lengths}",
            lambda: _throughput(engine, lengths, tapes=1 if dry else _TAPES),
        )
    found.step("host_ms_a_tape", lambda: _host_ms(engine, five))
    found.step("full_collection_seconds", _full_collection)
    ladder = engine._tapes
    if isinstance(ladder, GraphLadder):
        rungs = sorted(ladder._rungs)
        found.step("rungs", lambda: {slots: _rung(engine, ladder, slots, five) for slots in rungs})
        for slots in (rungs[-1], rungs[1]):
            found.step(f"profile_{slots}", lambda: _profile(engine, ladder, slots, five))


def _clips(lengths: Lengths, count: int) -> list[Segment]:
    return segments_of(draw(lengths, count))


def _latency(engine: Engine, clip: Sequence[Segment], seconds: float) -> dict[str, float | None]:
    took = sorted(1000 * each for each in repeat(lambda: predict(engine, clip), seconds=seconds))
    result = {
        "p50_ms": statistics.median(took),
        "p99_ms": percentile(took, P99),
        "least_ms": took[0],
        "most_ms": took[-1],
        "runs": len(took),
    }
    print(result, flush=True)
    return result


def _throughput(engine: Engine, lengths: Lengths, *, tapes: int) -> dict[str, Any]:
    """Tapes one after the other, two under way, as the pipeline sends them."""
    work = fill(engine, _clips(lengths, 64)) * tapes
    predict(engine, work[: len(work) // 4 or 1])
    used, run = engine.slots_used, engine.slots_run
    with watched() as gpu:  # around the clocks: reaching NVML and leaving it takes a while
        busy, began, cpu = engine.device_seconds, time.perf_counter(), time.process_time()
        predict(engine, work)
        wall, spent = time.perf_counter() - began, time.process_time() - cpu
    result = {
        "audio_seconds_a_second": sum(len(s.clip.samples) for s in work) / SAMPLE_RATE_HZ / wall,
        "clips_a_second": len(work) / wall,
        "device_busy": (engine.device_seconds - busy) / wall,
        "tape_fill": (engine.slots_used - used) / (engine.slots_run - run),
        "cpu_ms_a_clip": 1000 * spent / len(work),
        "clips": len(work),
        "gpu": gpu,
    }
    print(lengths, result, flush=True)
    return result


def _host_ms(engine: Engine, five: Sequence[Segment]) -> dict[str, float]:
    """What the infer thread does for a full tape of 5 s clips, beside waiting."""
    segments = fill(engine, list(five))
    started = engine.start(segments)
    outputs = engine.finish(started)

    def ms(call: Any) -> float:
        return 1000 * statistics.median(repeat(call, seconds=0.1))

    def send_and_collect() -> None:
        began.append(time.perf_counter())
        tape = engine.start(segments)
        sent.append(time.perf_counter())
        engine.finish(tape)

    began: list[float] = []
    sent: list[float] = []
    whole = ms(send_and_collect)
    return {
        "start": 1000 * statistics.median(b - a for a, b in zip(began, sent, strict=True)),
        "start_and_finish": whole,
        "pool": ms(lambda: [engine.pool([output]) for output in outputs]),
    }


def _full_collection() -> float:
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began


def _tape_of(engine: Engine, slots: int, five: Sequence[Segment]) -> list[Segment]:
    """Clips of 5 s that fill a rung; one, where none fits."""
    each = engine.slots(five[0].window)
    return list(five[: max(1, slots // each)])


def _rung(
    engine: Engine, ladder: GraphLadder, slots: int, five: Sequence[Segment]
) -> dict[str, float]:
    captured, segments = ladder._rungs[slots], _tape_of(engine, slots, five)
    predict(engine, segments)
    began, ended = event(), event()
    runs = max(20, 100_000 // slots)
    with torch.cuda.stream(ladder._compute):
        captured.graph.replay()
        began.record()
        for _ in range(runs):
            captured.graph.replay()
        ended.record()
    ended.synchronize()
    ms = began.elapsed_time(ended) / runs
    audio = 5.0 * len(segments) if engine.slots(segments[0].window) <= slots else 0.0
    row = {
        "graph_ms": ms,
        "us_a_slot": 1000 * ms / slots,
        "audio_seconds_a_second": 1000 * audio / ms,
    }
    print("rung", slots, {name: round(value, 3) for name, value in row.items()}, flush=True)
    return row


def _profile(
    engine: Engine, ladder: GraphLadder, slots: int, five: Sequence[Segment]
) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415 (slow to import)

    predict(engine, _tape_of(engine, slots, five))
    captured, runs = ladder._rungs[slots], 3
    with torch.cuda.stream(ladder._compute):
        captured.graph.replay()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            for _ in range(runs):
                captured.graph.replay()
            torch.cuda.synchronize()
    kernels: dict[str, list[float]] = defaultdict(list)
    spans = []
    for each in profiled.events() or ():
        if str(each.device_type).endswith("CUDA"):
            kernels[each.name].append(each.time_range.elapsed_us())
            spans.append((each.time_range.start, each.time_range.end))
    rows = sorted(kernels.items(), key=lambda item: -sum(item[1]))
    result = {
        "kernels": sum(map(len, kernels.values())) / runs,
        "busy_us": sum(map(sum, kernels.values())) / runs,
        "span_us": (max(end for _, end in spans) - min(start for start, _ in spans)) / runs,
        "by_kernel": [
            {"name": name[:120], "count": len(took) / runs, "us": sum(took) / runs}
            for name, took in rows[:_KERNELS_SHOWN]
        ],
    }
    for row in result["by_kernel"][:18]:
        print(f"   {row['us']:9.1f} us {row['count']:6.1f} x {row['name'][:90]}", flush=True)
    return result
