"""How the intake runs suspects: alone, one at a time, and in nobody's way; on a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from storage.redis.embedded import EmbeddedRedis
from tests.support.intake_host import KEYS, Host, MakeHost, hosts
from tests.support.polling import until
from worker.pipeline.task import Task


@pytest.fixture
def host(client: Any, redis_server: EmbeddedRedis) -> Iterator[MakeHost]:
    """Make hosts on the emptied server."""
    with hosts(redis_server.url) as make:
        yield make


def add_suspects(host: Host, *jobs: str) -> None:
    """Enqueue jobs that two workers died with before."""
    for job in jobs:
        crashes = {f"_crash:1-1:dead-{number}:1": "company" for number in range(2)}
        host.client.hset(KEYS.result(job), mapping={"status": "retrying", **crashes})
    host.add(*jobs)


def armed(host: Host, job: str) -> str:
    """How the job is armed, '' for not at all."""
    return str((host.client.hget(KEYS.result(job), "_armed") or b"").decode()).rpartition(":")[2]


def runs_suspect(host: Host) -> float:
    """Suspects begun, by the metric."""
    return host.metrics.registry.get_sample_value("emostream_suspects_run_total") or 0.0


def test_a_suspect_waits_until_the_pipeline_is_empty(host: MakeHost) -> None:
    """Until then it is held, unarmed, and nothing more is read; then it is begun alone."""
    running = host()
    running.add("a")
    add_suspects(running, "suspect")
    assert running.steps() == ["a"]
    running.add("b")
    assert running.steps(3) == ["a"]
    assert len(running.leases) == 2
    assert (armed(running, "a"), armed(running, "suspect")) == ("company", "")
    running.room.tasks.clear()
    assert running.steps() == ["suspect"]
    assert running.room.tasks[0].alone
    assert armed(running, "suspect") == "alone"
    assert runs_suspect(running) == 1


def test_nothing_is_begun_beside_a_suspect(host: MakeHost) -> None:
    """Neither read nor taken over; when it has ended, others come first."""
    running = host()
    add_suspects(running, "suspect")
    assert running.steps(2) == ["suspect"]
    running.add("given")
    (given,) = running.take()
    running.worker("other").give_back([(given.delivery, given.job_id)])
    running.add("b")
    assert running.steps(3) == ["suspect"]
    running.room.tasks.clear()
    assert set(running.steps(3)) == {"given", "b"}
    assert not any(task.alone for task in running.room.tasks)


def test_a_row_of_suspects_keeps_nobody_out(host: MakeHost) -> None:
    """However long the first one took, what waits in the lanes is read before the second."""
    running = host()
    add_suspects(running, "first", "second")
    assert running.steps(2) == ["first"]
    running.add("b")

    def end_late(timeout_seconds: float) -> bool:
        running.room.tasks.clear()
        running.clock.now += 10
        return True

    running.room.join = end_late  # type: ignore[method-assign]  # the suspect takes so long
    running.clock.tick = 0
    running.intake.step()
    running.intake.step()
    assert running.room.jobs == ["b"]


def test_a_second_suspect_is_for_another_worker(host: MakeHost) -> None:
    """It is given back once, and no more looked at until the first one has run."""
    running = host()
    add_suspects(running, "first", "second")
    running.add("a")
    assert running.steps(5) == ["a"]
    (given,) = running.pending("given-back")
    assert given["times_delivered"] == 0
    assert len(running.leases) == 2
    running.room.tasks.clear()
    running.steps()
    assert running.room.jobs == ["first"]
    running.room.tasks.clear()
    running.steps(3)
    assert running.room.jobs == ["second"]
    assert running.pending("given-back") == []
    assert runs_suspect(running) == 2


def test_two_workers_run_a_suspect_each(host: MakeHost) -> None:
    """What one gives back the other takes."""
    one, two = host(), host(owner="you")
    add_suspects(one, "first", "second")
    one.steps(2)
    two.steps(2)
    assert (one.room.jobs, two.room.jobs) == (["first"], ["second"])


def test_a_give_back_that_fails_is_repeated(host: MakeHost) -> None:
    """An outage between reading a second suspect and giving it back loses nothing."""
    running = host()
    give_back, faults = running.streams.give_back, [RedisConnectionError("reset")]

    def faulty(held: Any) -> int:
        if faults:
            raise faults.pop()
        return give_back(held)

    running.streams.give_back = faulty  # type: ignore[method-assign]  # fails once
    add_suspects(running, "first", "second")
    running.steps()
    with pytest.raises(RedisConnectionError):
        running.steps()
    assert running.pending("given-back") == []
    running.steps()
    assert len(running.pending("given-back")) == 1


@pytest.mark.parametrize("faults", ["faults", "late_faults"])
def test_an_outage_before_a_suspect_begins_is_survived(host: MakeHost, faults: str) -> None:
    """Begun again, or for the first time; one delivery either way."""
    running = host()
    add_suspects(running, "suspect")
    running.steps()
    setattr(running.streams, faults, [RedisConnectionError("reset")])
    with pytest.raises(RedisConnectionError):
        running.steps()
    assert running.steps() == ["suspect"]
    assert running.room.tasks[0].ticket.deliveries == 1


def test_a_suspect_that_cannot_be_submitted_is_let_go(host: MakeHost) -> None:
    """An unexpected error leaves it to the end of its lease, and others run."""
    running = host()
    submit, faults = running.room.submit, [OSError("No space left on device")]

    def faulty(task: Task) -> None:
        if faults:
            raise faults.pop()
        submit(task)

    running.room.submit = faulty  # type: ignore[method-assign]  # fails once
    add_suspects(running, "suspect")
    running.steps()
    with pytest.raises(OSError, match="No space"):
        running.steps()
    assert len(running.leases) == 0
    running.add("a")
    assert running.steps(2) == ["a"]


def test_a_suspect_that_was_lost_meanwhile_is_let_go(host: MakeHost) -> None:
    """Another worker took it over while this one waited: reading goes on."""
    running = host()
    add_suspects(running, "suspect")
    running.steps()
    other = running.worker("other", 0.001)
    until(lambda: other.reclaim(1).deliveries)
    running.add("a")
    assert running.steps(2) == ["a"]
    assert [each.entry for each, _ in running.leases.renewable(0.0)] == [
        running.room.tasks[0].ticket.delivery.entry
    ]


def test_a_suspect_is_given_back_by_a_drain(host: MakeHost) -> None:
    """One that has not begun counts neither as a delivery nor as a crash."""
    running = host()
    running.add("a")
    add_suspects(running, "suspect")
    running.intake.start()
    until(lambda: running.room.jobs == ["a"] and len(running.leases) == 2)
    running.intake.stop()
    assert running.streams.give_back(running.leases.take_all()) == 2
    assert [each["times_delivered"] for each in running.pending("given-back")] == [0, 0]
    assert running.client.hget(KEYS.result("suspect"), "status") == b"retrying"


def test_a_pipeline_that_hangs_keeps_no_suspect_waiting(host: MakeHost) -> None:
    """After ten minutes another worker may have it; this one goes on, and takes none for now."""
    running = host(robbed_after_seconds=3600)
    running.add("hangs")
    add_suspects(running, "suspect")
    running.steps(2)
    running.clock.now += 601
    running.add("a")
    add_suspects(running, "another")
    assert running.steps(4) == ["hangs", "a"]
    assert len(running.pending("given-back")) == 2
    running.room.tasks.clear()
    assert running.steps(3) == ["suspect"]
