"""The guard: which faults of a call are judged, and what becomes of them."""

import errno
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from storage.errors import (
    DecodeCrashed,
    Internal,
    JobError,
    ObjectNotFound,
    SpoolUnavailable,
    StageTimeout,
    StorageUnavailable,
)
from tests.support.fitness import Fitness
from worker.fitness.breaker import Breaker
from worker.fitness.guard import UNGUARDED, Excused, Guard
from worker.fitness.self_test import Finding
from worker.telemetry.metrics import Metrics

SICK = Finding(SpoolUnavailable("the spool is gone"))


def failing(error: Exception) -> Callable[[], None]:
    """A call that fails."""

    def call() -> None:
        raise error

    return call


def a_guard(found: Finding | None) -> tuple[Guard, Fitness]:
    """A guard whose self-test finds that."""
    fitness = Fitness()
    fitness.found = found
    return Guard(Breaker(fitness, metrics=Metrics())), fitness


@pytest.mark.parametrize(
    "error",
    [
        StorageUnavailable("away"),
        StageTimeout("slow"),
        SpoolUnavailable("full"),
        Internal("fault"),
        OSError(errno.EMFILE, "too many"),
        OSError(errno.ENOSPC, "full"),
    ],
)
def test_what_a_machine_can_do_is_excused_where_it_did(error: Exception) -> None:
    """The job goes back, with what it failed of in case that counts."""
    guard, _ = a_guard(SICK)
    with capture_logs(), pytest.raises(Excused, match="the spool is gone") as excused:
        guard(failing(error))()
    assert excused.value.error is (error if isinstance(error, JobError) else SICK.error)
    assert excused.value.finding is SICK
    well, fitness = a_guard(None)
    with pytest.raises(type(error)) as counted:
        well(failing(error))()
    assert counted.value is error
    assert fitness.tests == ["everything"]


@pytest.mark.parametrize(
    "error", [ObjectNotFound("none"), DecodeCrashed("bad"), ValueError("bug"), OSError("odd")]
)
def test_what_is_the_jobs_own_asks_nobody(error: Exception) -> None:
    """An answer of the store, a bad file, a bug: no self-test would change what they mean."""
    guard, fitness = a_guard(SICK)
    with pytest.raises(type(error)) as counted:
        guard(failing(error))()
    assert counted.value is error
    assert fitness.tests == []


def test_what_goes_well_is_handed_through() -> None:
    """Arguments and result, however the breaker stands."""
    guard, fitness = a_guard(None)
    assert guard(divmod)(7, 2) == guard.unless_open(divmod)(7, 2) == (3, 1)
    assert fitness.tests == []


def test_a_fetch_is_not_even_tried_while_it_is_open() -> None:
    """With a server that hangs, each of the jobs in hand would take its whole time limit."""
    guard, _ = a_guard(SICK)
    calls: list[int] = []
    fetch = guard.unless_open(calls.append)
    with capture_logs(), pytest.raises(Excused):
        guard(failing(StorageUnavailable("away")))()
    with pytest.raises(Excused):
        fetch(1)
    assert calls == []


def test_without_a_breaker_nothing_is_judged() -> None:
    """`classify` has nobody to give a job back to."""
    error = StorageUnavailable("away")
    call = failing(error)
    assert UNGUARDED(call) is call
    assert UNGUARDED.unless_open(call) is call
