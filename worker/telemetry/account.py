"""What a worker's own metrics say of it, as rates; its GPU, and what all that means."""

import json
import time
from collections.abc import Iterator
from itertools import chain

import psutil

from worker.telemetry.gpu import GpuReading
from worker.telemetry.metrics import Metrics
from worker.telemetry.verdict import verdict
from worker.telemetry.work import Look, Work, between, counted

_SHORTEST_SECONDS = 0.2  # of less there are no rates
_DONE, _ENDED = "emostream_jobs_ended_total:done", "emostream_jobs_ended_total"
_SIGNIFICANT = 6  # digits of a figure

Value = str | int | float


class Account:
    """Gives the fields of `emo:worker:<name>` that come of counting. Not thread-safe."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._process = psutil.Process()
        self._last = self._look()
        psutil.cpu_percent()  # of the time since

    def fields(self) -> dict[str, Value]:
        """Figures of now, and rates since the call before; what is not known is left out."""
        now, machine_busy = self._look(), psutil.cpu_percent() / 100
        done = now.counters.get(_DONE, 0.0)
        told: dict[str, Value | None] = {
            "in_flight": int(now.counters.get("emostream_jobs_in_flight", 0.0)),
            "done": int(done),
            "not_done": int(now.counters.get(_ENDED, 0.0) - done),
            "memory_bytes": self._process.memory_info().rss,
        }
        work = None
        if now.at - self._last.at >= _SHORTEST_SECONDS:
            work = between(self._last, now)
            told |= _rates(self._last, now, work)
            self._last = now
        if gpu := self._metrics.gpu.reading():
            told |= _gpu(gpu, work, machine_busy)
        return {name: _short(value) for name, value in told.items() if value is not None}

    def _look(self) -> Look:
        metrics = self._metrics
        counting = (
            *(metrics.ended, metrics.audio_seconds, metrics.stage_seconds, metrics.device_seconds),
            *(metrics.slots_used, metrics.slots_run, metrics.batch_clips, metrics.in_flight),
            *(metrics.job_seconds, metrics.queue_seconds, metrics.sick),
        )
        look = counted(chain.from_iterable(each.collect() for each in counting))
        cores = {"process_cpu_seconds_total": time.process_time()}
        return look._replace(counters={**look.counters, **cores})


def _rates(first: Look, second: Look, work: Work) -> Iterator[tuple[str, Value | None]]:
    def grown(name: str) -> float:
        return second.counters.get(name, 0.0) - first.counters.get(name, 0.0)

    yield "period_s", work.seconds
    yield "clips_per_s", grown(_DONE) / work.seconds
    yield "audio_s_per_s", work.audio_seconds_a_second
    for field, name in (
        ("latency_ms", "emostream_job_seconds"),
        ("queue_ms", "emostream_job_queue_seconds"),
    ):
        ended = grown(f"{name}_count")
        yield field, 1000 * grown(f"{name}_sum") / ended if ended else None
    yield "tape_fill", work.tape_fill
    yield "device_share", work.device_share
    yield "cores", work.cores
    yield (
        "stage_shares",
        json.dumps({name: _short(share) for name, share in work.stage_shares.items()}),
    )


def _gpu(
    gpu: GpuReading, work: Work | None, machine_busy: float
) -> Iterator[tuple[str, Value | None]]:
    found = verdict(gpu, work, machine_busy=machine_busy)
    yield "gpu_name", gpu.name
    yield "gpu_uuid", gpu.uuid
    yield "gpu_utilization", gpu.utilization
    yield "gpu_memory_used_bytes", gpu.memory_used_bytes
    yield "gpu_memory_total_bytes", gpu.memory_total_bytes
    yield "gpu_w", gpu.watts
    yield "gpu_limit_w", gpu.limit_watts
    yield "gpu_mhz", gpu.sm_mhz
    yield "gpu_most_mhz", gpu.most_sm_mhz
    yield "gpu_celsius", gpu.celsius
    yield "gpu_held_down_by", ", ".join(gpu.held_down_by) or None
    yield "gpu_verdict", found.state.value
    yield "gpu_reason", found.reason
    yield "gpu_change", found.change or None


def _short(value: Value) -> Value:
    """A figure with no more digits than anyone reads."""
    return float(f"{value:.{_SIGNIFICANT}g}") if isinstance(value, float) else value
