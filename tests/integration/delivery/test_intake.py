"""The intake, against a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from storage.errors import StorageUnavailable
from storage.queue.entries import Begun
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.intake_host import KEYS, MakeHost, hosts
from tests.support.polling import until
from worker.fitness.self_test import Finding
from worker.pipeline.task import Task


@pytest.fixture
def host(client: Any, redis_server: EmbeddedRedis) -> Iterator[MakeHost]:
    """Make hosts on the emptied server, or on one given by URL."""
    with hosts(redis_server.url) as make:
        yield make


def test_jobs_are_begun_held_and_submitted(host: MakeHost) -> None:
    """With what Redis knows of them, and the time they waited."""
    running = host()
    running.add("a", "b")
    running.add("c", lane=Lane.HIGH)
    assert running.steps() == ["c", "a", "b"]
    assert running.client.hget(KEYS.result("a"), "status") == b"running"
    task = running.room.tasks[1]
    assert task.value == task.job
    assert (task.ticket.attempts, task.ticket.deliveries) == (1, 1)
    assert 0 <= task.milliseconds["queue"] < 60_000
    assert len(running.leases) == 3


def test_a_job_that_is_too_large_fails_alone(host: MakeHost) -> None:
    """A field of 40 KiB ends its own job with invalid_job; its neighbours run."""
    running = host()
    running.add("a")
    running.client.xadd("emo:jobs", {"key": "a.wav", "job": "big", "notes": "x" * 40 * 1024})
    running.add("c")
    assert running.steps() == ["a", "big", "c"]
    errors = [task.error for task in running.room.tasks]
    assert (errors[0], errors[2]) == (None, None)
    assert errors[1] is not None
    assert errors[1].code == "invalid_job"
    assert "40979 bytes; at most 32768" in str(errors[1])


def test_a_field_that_is_not_text_is_named(host: MakeHost) -> None:
    """Bytes that are not UTF-8 in `key` jam nobody."""
    running = host()
    entry = running.client.xadd("emo:jobs", {b"key": b"caf\xe9.wav"})
    running.add("b")
    assert running.steps() == [entry.decode(), "b"]
    error = running.room.tasks[0].error
    assert error is not None
    assert str(error) == "field 'key': not UTF-8 (byte 3)"
    assert len(running.leases) == 2  # settle still has to end it


def test_unknown_fields_are_carried_along(host: MakeHost) -> None:
    """Bytes nobody understands come through a retry unharmed."""
    running = host()
    fields = {b"key": b"a.wav", b"job": b"x", b"\xff\xfe": b"\x80\x81"}
    running.client.xadd("emo:jobs", fields)
    running.steps()
    (task,) = running.room.tasks
    assert task.error is None
    running.streams.retry(task.ticket, delay_seconds=0, code="internal", message="again")
    running.steps()
    _, again = running.room.tasks
    assert again.error is None
    assert again.ticket.attempts == 2
    assert fields.items() <= again.ticket.delivery.fields.items()


def test_no_more_is_delivered_than_there_is_room_for(host: MakeHost) -> None:
    """Over all lanes together; the high lane has the largest share."""
    running = host(capacity=8)
    for lane in Lane:
        running.add(*[f"{lane}-{number}" for number in range(10)], lane=lane)
    jobs = running.steps(5)
    assert len(jobs) == len(set(jobs)) == len(running.leases) == 8
    assert sum("high" in job for job in jobs) >= 5
    taken = [running.client.xpending(stream, "workers")["pending"] for stream in KEYS.lanes]
    assert sum(taken) == 8


def test_no_more_is_taken_over_than_there_is_room_for(host: MakeHost) -> None:
    """A crashed worker's jobs are shared by those that live."""
    running = host(capacity=3)
    running.add(*[str(number) for number in range(10)])
    running.take(10)
    assert running.steps() == ["0", "1", "2"]
    assert len(running.pending("me")) == 3


def test_a_full_pipeline_reads_nothing(host: MakeHost) -> None:
    """What cannot be worked on stays for others."""
    running = host(capacity=3)
    running.add("a", "b", "c", "d")
    running.steps(3)
    assert running.room.jobs == ["a", "b", "c"]
    assert running.client.xpending("emo:jobs", "workers")["pending"] == 3


def test_a_nearly_full_pipeline_is_read_for_many_jobs_at_once(host: MakeHost) -> None:
    """It waits for room for an eighth; where none comes, it takes what there is room for."""
    running = host(capacity=80)
    running.add(*map(str, range(100)))
    assert len(running.steps(8)) == 80
    del running.room.tasks[75:]
    running.room.waited_for.clear()
    assert running.steps(1)[75:] == [str(number) for number in range(80, 85)]
    assert running.room.waited_for == [10]


def test_a_small_pipeline_waits_for_room_for_each_lane(host: MakeHost) -> None:
    """An eighth of it would be no job at all."""
    running = host(capacity=8)
    running.steps(1)
    assert running.room.waited_for == [len(Lane)]


def test_a_blocking_read_minds_the_room(host: MakeHost) -> None:
    """Jobs that arrive in all lanes at once do not overfill the pipeline."""
    running = host(capacity=4)

    def arrive() -> None:
        for lane in Lane:
            running.add(*[f"{lane}-{number}" for number in range(5)], lane=lane)

    running.streams.meanwhile = arrive
    assert running.steps() == ["high-0", "normal-0", "bulk-0"]


def test_what_is_not_to_be_run_is_let_go(host: MakeHost) -> None:
    """A second entry of a live job is neither submitted nor held."""
    running = host()
    running.add("x", "x")
    assert running.steps() == ["x"]
    assert len(running.leases) == 1
    sample = running.metrics.registry.get_sample_value
    assert sample("emostream_entries_dropped_total", {"verdict": "REPEATED"}) == 1


def test_a_silent_workers_jobs_are_taken_over(host: MakeHost) -> None:
    """When its lease has run out, with the count that fences it."""
    running = host()
    running.add("x")
    (lost,) = running.take()
    assert running.steps() == ["x"]
    (task,) = running.room.tasks
    assert task.ticket.delivery.count == lost.delivery.count + 1
    assert task.ticket.crashes == 1
    assert running.metrics.reclaimed._value.get() == 1


def test_what_was_given_back_comes_before_what_is_new(host: MakeHost) -> None:
    """All of it, as fast as there is room, and not with every upkeep as much as fits just then."""
    running = host(capacity=8, lease_seconds=30)
    old = [f"old-{number}" for number in range(30)]
    running.add(*old)
    taken = running.take(30)
    running.worker("other").give_back([(each.delivery, each.job_id) for each in taken])
    running.add(*[f"new-{number}" for number in range(100)])
    ended: list[str] = []
    running.clock.now += 2  # the next upkeep is due, and no other for the rest of it
    while len(ended) < 40:
        running.intake.step()
        running.intake.step()  # finds the pipeline full
        ended += running.room.jobs[:4]
        del running.room.tasks[:4]
    assert ended[:30] == old
    assert ended[30:] == [f"new-{number}" for number in range(10)]


@pytest.mark.parametrize("given_back", [False, True])
def test_a_full_worker_takes_over_before_it_reads(host: MakeHost, given_back: bool) -> None:
    """What comes free while it waits for room is for what others left, as long as there is any."""
    running = host(capacity=8, lease_seconds=30)
    first, old, new = (
        [f"{each}-{number}" for number in range(8)] for each in ("one", "old", "new")
    )
    running.add(*first)
    assert running.steps(2) == first
    running.add(*old)
    taken = running.take(8)
    if given_back:
        running.worker("other").give_back([(each.delivery, each.job_id) for each in taken])
    running.add(*new)
    running.room.leaving, running.clock.tick = 4, 0
    running.clock.now += 2  # the next upkeep is due, and no other for the rest of it
    for _ in range(6):
        running.intake.step()
    assert running.room.left + running.room.jobs == first + old + new


def test_a_worker_whose_store_is_back_takes_over_before_it_reads(host: MakeHost) -> None:
    """The look that was due while the breaker was open is made up for."""
    running = host(capacity=4, lease_seconds=30)
    running.add("old")
    (taken,) = running.take()
    running.worker("other").give_back([(taken.delivery, taken.job_id)])
    running.add("a", "b", "c", "d")
    running.fitness.found = Finding(StorageUnavailable("nobody answers"), away=True)
    assert running.breaker.blame(running.clock())
    running.clock.now += 2  # the next upkeep is due, and no other for the rest of it
    running.intake.step()
    running.fitness.found = None
    running.breaker.look()
    running.intake.step()
    assert running.room.jobs == ["old"]
    running.intake.step()
    assert running.room.jobs == ["old", "a", "b", "c"]


@pytest.mark.parametrize("faults", ["faults", "late_faults"])
def test_begin_is_repeated_for_what_was_delivered(host: MakeHost, faults: str) -> None:
    """An outage between read and begin, or one that swallowed the reply, costs no job."""
    running = host()
    running.add("a", "b")
    setattr(running.streams, faults, [RedisConnectionError("reset")] * 2)
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            running.steps()
    running.add("c")
    assert len(running.leases) == 2  # renewed meanwhile
    assert running.steps() == ["a", "b"]
    assert [task.ticket.attempts for task in running.room.tasks] == [1, 1]
    assert running.steps() == ["a", "b", "c"]


def test_an_error_over_one_job_leaves_no_other_behind(host: MakeHost) -> None:
    """The rest of its batch, armed and renewed by now, is submitted; its own lease runs out."""
    running = host()
    running.add("a", "b", "c")
    submit, faults = running.room.submit, [OSError("No space left on device")]

    def faulty(task: Task) -> None:
        if task.job.id == "b" and faults:
            raise faults.pop()
        submit(task)

    running.room.submit = faulty  # type: ignore[method-assign]  # fails once
    with pytest.raises(OSError, match="No space"):
        running.steps()
    assert running.steps() == ["a", "c"]
    assert len(running.leases) == 2


def test_the_intake_outlives_an_unexpected_error(host: MakeHost) -> None:
    """A worker that lives and takes no jobs would be missed by nobody."""
    running = host()
    running.streams.faults = [RuntimeError("boom")]
    running.add("a")
    running.intake.start()
    until(lambda: running.room.jobs == ["a"])


def test_an_intake_that_has_ended_is_not_connected(host: MakeHost) -> None:
    """However well Redis answered last time: the worker takes no jobs, and is not ready."""
    running = host()
    running.intake.start()
    assert running.intake.connected
    running.intake.stop()
    assert not running.intake.connected


def test_what_is_begun_while_it_stops_is_given_back(host: MakeHost) -> None:
    """The pipeline takes nothing more then: the job is held, begun, and not submitted."""
    running = host()
    begin = running.streams.begin

    def stopped_meanwhile(*args: Any, **options: Any) -> list[Begun]:
        running.intake._stop.set()
        return begin(*args, **options)

    running.streams.begin = stopped_meanwhile  # type: ignore[method-assign]  # SIGTERM comes now
    running.add("a")
    assert running.steps() == []
    assert running.streams.give_back(running.leases.take_all()) == 1
    assert running.client.hget(KEYS.result("a"), "status") == b"queued"


def test_a_stopped_intake_reads_nothing_more(host: MakeHost) -> None:
    """What is enqueued after stop stays for others."""
    running = host(lease_seconds=0.1)
    running.intake.start()
    running.add("a")
    until(lambda: running.room.jobs == ["a"])
    running.intake.stop()
    running.add("b")
    assert running.client.xpending("emo:jobs", "workers")["pending"] == 1
    assert running.room.jobs == ["a"]
