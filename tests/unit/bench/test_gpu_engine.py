"""What the figures of `python -m bench.gpu` are of."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton", reason="NO TRITON: bench.gpu is not tested on this machine")

from bench.gpu import engine as bench_engine
from worker.bench.choices import Lengths
from worker.clip import SAMPLE_RATE_HZ

CLIPS, RUN_SECONDS, WATCH_SECONDS = 4, 2.0, 3.0


class Times:
    """The module `time`, of a clock that goes on when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Seconds."""
        return self.now

    process_time = perf_counter


def test_the_watch_over_the_device_is_not_in_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reaching NVML nor the end of its thread: what is timed is the work alone."""
    times = Times()
    engine: Any = SimpleNamespace(slots_used=0, slots_run=0, device_seconds=0.0)

    @contextmanager
    def watched() -> Iterator[dict[str, float]]:
        times.now += WATCH_SECONDS
        yield {"watts": 700.0}
        times.now += WATCH_SECONDS

    def predict(engine: Any, work: Any) -> None:
        times.now += RUN_SECONDS
        engine.slots_used += 1
        engine.slots_run += 1
        engine.device_seconds += RUN_SECONDS

    clip = SimpleNamespace(clip=SimpleNamespace(samples=range(5 * SAMPLE_RATE_HZ)))
    for name, fake in {
        "time": times,
        "watched": watched,
        "predict": predict,
        "fill": lambda engine, clips: clips,
        "_clips": lambda lengths, count: [clip] * CLIPS,
    }.items():
        monkeypatch.setattr(bench_engine, name, fake)
    found = bench_engine._throughput(engine, Lengths.FIVE, tapes=1)
    assert found["clips_a_second"] == CLIPS / RUN_SECONDS
    assert found["audio_seconds_a_second"] == 5 * CLIPS / RUN_SECONDS
    assert found["device_busy"] == 1
    assert found["cpu_ms_a_clip"] == 1000 * RUN_SECONDS / CLIPS
    assert found["gpu"] == {"watts": 700.0}
