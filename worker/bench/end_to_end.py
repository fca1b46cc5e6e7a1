"""From submission to result: what a client of this machine would see."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from worker.bench.clips import Lengths
from worker.bench.report import STAGES, EndToEndReport, Latency, LoadReport
from worker.bench.service import Done, Service, running_service, write_objects
from worker.bench.timing import LEAST_RUNS
from worker.settings import WorkerSettings

_FIRST_JOBS = 8
_MOST_GROWTH = 8.0
_HALF = 0.5


def measure_end_to_end(
    settings: WorkerSettings, *, lengths: Lengths, directory: Path, seconds: float
) -> EndToEndReport:
    """Keep a real worker busy for about `seconds` under each load.

    Raises NoServer, ServiceFailed.
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
        rate = _HALF * at_once.clips_per_second
        _, half_load = _load(service, max(LEAST_RUNS, round(rate * seconds)), per_second=rate)
    result = done[0].fields
    return EndToEndReport(result["device"], result["dtype"], at_once, half_load)


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
    )


def _wall_seconds(done: Sequence[Done]) -> float:
    """From the first submission to the last result."""
    first_ms = min(each.submitted_ms for each in done)
    return max(each.finished_ms - first_ms for each in done) / 1000
