"""Runs of the stress command, made up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from producer.client import Event, Result, Status
from producer.stress.alone import Alone, Clip
from producer.stress.clock import Clocks, Reading
from producer.stress.feed import Shot
from producer.stress.figures import Ran, summarize
from producer.stress.report import Asked, Run

START = 100.0  # by our clock, which is Redis' less 1000 s
ASKED = Asked("short", 1, 10.0, 2.0, 1, "normal", rate=100.0, arrivals="constant")
STILL = Reading(START, 1000.0, 0.0001)
SCORES = '{"happy":0.75,"sad":0.25}'


def result(finished: float = START, job_id: str = "a", **fields: Any) -> Result:
    """What a job came to, at that time by our clock."""
    told = {
        "status": "done",
        "run": 1,
        "scores": SCORES,
        "duration_s": 5.0,
        "model": "tiny",
        "model_revision": "r1",
        "device": "cpu",
        "dtype": "float32",
        "worker": "w1",
        "batch_clips": 4,
        "attempts": 1,
        "queue_ms": 1.0,
        "infer_ms": 5.0,
        "finished_at_ms": round(1000 * (finished + 1000)),
        **fields,
    }
    return Result(job_id, {name: str(value) for name, value in told.items() if value is not None})


ALONE = Alone(Clip("a.wav", "a.wav"), result(), 20.0)


def shot(at: float, took: float, *, late: float = 0.0, number: int = 0, **fields: Any) -> Shot:
    """One that was intended `at` seconds after the start, and took so long from then."""
    job_id, finished = f"job-{number}", START + at + took
    found = result(finished, job_id, **fields)
    status = found.status
    ends = [Event("1-0", job_id, status, 1, found.finished_at_ms or 0)] if found.ended else []
    intended = START + at
    return Shot(
        job_id, 0, intended, at >= ASKED.warm_up_s, sent=intended + late, ends=ends, result=found
    )


def shots(
    count: int = 1200, took: Callable[[int], float] = lambda n: 0.05, **more: Any
) -> list[Shot]:
    """A hundred a second, of which the first two hundred are the warm-up."""
    return [shot(n / 100, took(n), number=n, **more) for n in range(count)]


def ran(planned: Sequence[Shot], **changes: Any) -> Ran:
    """A run of them that is over."""
    clocks = Clocks(STILL, replace(STILL, at=START + 60))
    whole = Ran(ASKED, planned, [ALONE], START, clocks, "2026-01-02T03:04:05+00:00", 2, 0)
    return replace(whole, **changes)


def run(planned: Sequence[Shot] | None = None, **changes: Any) -> Run:
    """What it says."""
    return summarize(ran(shots() if planned is None else planned, **changes))


def dead(planned: Shot, status: Status) -> Shot:
    """The same with another end."""
    return replace(planned, result=replace_status(planned, status))


def replace_status(planned: Shot, status: Status) -> Result:
    """Its result, with another status."""
    assert planned.result is not None
    return Result(planned.job_id, {**planned.result.fields, "status": status.value})
