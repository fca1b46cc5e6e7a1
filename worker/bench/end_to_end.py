"""From submission to result: what a client of this machine would see."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.report import STAGES, EndToEndReport, Latency, LoadReport, Spread
from worker.bench.service import (
    DIFFERENT_CLIPS,
    Done,
    Service,
    running_service,
    write_objects,
)
from worker.bench.show import number
from worker.bench.timing import LEAST_RUNS
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.engine.engine import Engine

_FIRST_JOBS = 8
_MOST_GROWTH = 8.0
_HALF, _MOST_LATE = 0.5, 0.01
_TURNS = 3


def measure_end_to_end(
    settings: WorkerSettings,
    load: Callable[[], "Engine"],
    *,
    lengths: Lengths,
    directory: Path,
    seconds: float,
) -> EndToEndReport:
    """Keep a real worker busy for about `seconds` under each load.

    `load` gives an engine like the worker's, to take turns with it. Raises NoServer, ServiceFailed.
    """
    store = directory / "store"
    store.mkdir()
    objects = list(write_objects(store, lengths))
    ours = {"store": store.as_uri()}
    with running_service(settings, directory, objects, ours=ours) as service:
        jobs = _FIRST_JOBS
        while True:
            done, at_once = _load(service, jobs)
            took_seconds = jobs / at_once.clips_per_second
            if took_seconds >= seconds:
                break
            # A short run says little of a long one: go there in steps.
            jobs = math.ceil(jobs * min(_MOST_GROWTH, 1.2 * seconds / took_seconds))
        alone = _Alone(load(), lengths, jobs)
        shares = []
        for _ in range(_TURNS):
            alone_seconds = alone.seconds()
            done, at_once = _load(service, jobs)
            shares.append(alone_seconds * at_once.clips_per_second / jobs)
        rate = _HALF * at_once.clips_per_second
        _, half_load = _load(service, max(LEAST_RUNS, round(rate * seconds)), per_second=rate)
    result = done[0].fields
    return EndToEndReport(result["device"], result["dtype"], at_once, half_load, Spread.of(shares))


class _Alone:
    """The engine, with the clips of so many jobs of the service in memory."""

    def __init__(self, engine: "Engine", lengths: Lengths, jobs: int) -> None:
        # Not above: it imports torch, and other parts go without.
        from worker.bench.engine import predict, segments_of  # noqa: PLC0415

        engine.warm_up()
        clips = segments_of(draw(lengths, DIFFERENT_CLIPS))
        work = [clips[number % len(clips)] for number in range(jobs)]
        self._run = partial(predict, engine, work)

    def seconds(self) -> float:
        """What it takes for them."""
        started = time.monotonic()
        self._run()
        return time.monotonic() - started


def _load(
    service: Service, jobs: int, *, per_second: float | None = None
) -> tuple[list[Done], LoadReport]:
    """Run so many jobs, and sum them up."""
    before = service.stage_seconds()
    done = service.run(jobs, per_second=per_second)
    after = service.stage_seconds()
    wall_seconds = _wall_seconds(done)
    audio_seconds = sum(float(each.fields["duration_s"]) for each in done)
    infer_seconds = after.get("infer", 0.0) - before.get("infer", 0.0)
    return done, LoadReport(
        jobs=jobs,
        clips_per_second=jobs / wall_seconds,
        rtfx=audio_seconds / wall_seconds,
        queue_to_done=Latency.of([each.queue_to_done_ms / 1000 for each in done]),
        stage_p50_ms={
            stage: statistics.median(each.stage_ms(stage) for each in done) for stage in STAGES
        },
        clips_per_tape=statistics.mean(int(each.fields["batch_clips"]) for each in done),
        tapes_under_way=infer_seconds / wall_seconds,
        late=None if per_second is None else Latency.of([each.late_ms / 1000 for each in done]),
    )


def doubts(load: LoadReport) -> list[str]:
    """Why a load was not that which was meant: a sentence, or none."""
    if load.late is None:
        return []
    name, late_ms, latency_ms = "p99", load.late.p99_ms, load.queue_to_done.p99_ms
    if late_ms is None or latency_ms is None:
        name, late_ms, latency_ms = "most", load.late.most_ms, load.queue_to_done.most_ms
    if late_ms is None or latency_ms is None or late_ms <= _MOST_LATE * latency_ms:
        return []
    return [
        f"jobs were submitted up to {number(late_ms)} ms late ({name}), more than {_MOST_LATE:.0%} "
        f"of the latency of {number(latency_ms)} ms ({name})"
    ]


def _wall_seconds(done: Sequence[Done]) -> float:
    """From when the first was to be submitted to the last result."""
    first_ms = min(each.intended_ms for each in done)
    return max(each.finished_ms - first_ms for each in done) / 1000
