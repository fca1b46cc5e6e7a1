"""How many jobs are held: enough for the tapes, and no more than there are files for."""

import resource
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from worker.pipeline.capacity import affordable_jobs, jobs_for, raise_limit


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    """The limits as they were; put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("tape_slots", "jobs"), [(1_509, 256), (2_048, 256), (16_384, 771)])
def test_enough_jobs_are_held_for_the_tapes(tape_slots: int, jobs: int) -> None:
    """A GPU that takes 190 short clips at a time would wait for more than 256 jobs bring it."""
    assert jobs_for(tape_slots) == jobs


def test_a_worker_has_all_that_it_may_have(limits: tuple[int, int]) -> None:
    """Shells and service managers give 1,024 at first, and far more to who asks."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_fewer_jobs_are_held_where_files_are_few(limits: tuple[int, int]) -> None:
    """Better than jobs that fail because nothing can be opened any more; and it is said."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    with capture_logs() as logs:
        assert affordable_jobs(344, beside=96) == 344
        assert affordable_jobs(345, beside=96) == 344
    assert [(entry["event"], entry["jobs"]) for entry in logs] == [("worker.few_descriptors", 344)]


def test_a_worker_without_a_limit_takes_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Infinity is a number below all others to this interface."""
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: infinite)
    assert affordable_jobs(100_000, beside=96) == 100_000


def test_what_else_takes_descriptors_is_left_its_own(limits: tuple[int, int]) -> None:
    """Many threads that fetch, and slow clients of the health port, cost jobs in advance."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    assert affordable_jobs(344, beside=296) == 144
    assert affordable_jobs(344, beside=1000) == 1
