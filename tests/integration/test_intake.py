"""The intake, against a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from storage.embedded import EmbeddedRedis
from storage.messages import Lane
from storage.streams import Begun, Outcome
from tests.intake_host import KEYS, MakeHost, hosts
from tests.polling import until
from tests.stream_workers import DONE


@pytest.fixture
def host(client: Any, redis_server: EmbeddedRedis) -> Iterator[MakeHost]:
    """Make hosts on the emptied server, or on one given by URL."""
    with hosts(redis_server.url) as make:
        yield make


@pytest.fixture
def own_server(tmp_path: Any) -> Iterator[EmbeddedRedis]:
    """A server that the test may stop."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


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
    running = host(capacity=3, robbed_after_seconds=0.001)
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
    running = host(robbed_after_seconds=0.001)
    running.add("x")
    (lost,) = running.take()
    assert running.steps() == ["x"]
    (task,) = running.room.tasks
    assert task.ticket.delivery.count == lost.delivery.count + 1
    assert task.ticket.crashes == 1
    assert running.metrics.reclaimed._value.get() == 1


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


def test_a_flushed_server_is_joined_again(host: MakeHost, client: Any) -> None:
    """The group is made anew, at 0, and what is enqueued then is read."""
    running = host()
    running.intake.start()
    running.add("a")
    until(lambda: running.room.jobs == ["a"])
    client.flushall()
    running.add("b")
    until(lambda: running.room.jobs == ["a", "b"])
    assert running.intake.connected


def test_an_outage_is_survived(host: MakeHost, own_server: EmbeddedRedis) -> None:
    """Redis goes away and comes back with its data: reading goes on, and nothing is lost."""
    running = host(own_server.url)
    running.intake.start()
    running.add("a")
    until(lambda: running.room.jobs == ["a"])
    own_server.stop()
    until(lambda: not running.intake.connected)
    own_server.start()
    running.add("b")
    until(lambda: running.room.jobs == ["a", "b"])
    until(lambda: running.intake.connected)
    assert running.metrics.outages._value.get() == 1
    assert len(running.leases) == 2


def test_an_outage_is_told_once(host: MakeHost) -> None:
    """Not with every attempt: `redis.away`, and `redis.back` when it is over."""
    running = host()
    with capture_logs() as logs:
        running.streams.faults = [OutOfMemoryError("OOM command not allowed")] * 3
        running.add("a")
        running.intake.start()
        until(lambda: running.room.jobs == ["a"])
        until(lambda: running.intake.connected)
    told = [each["event"] for each in logs if each["event"].startswith("redis.")]
    assert told == ["redis.away", "redis.back"]
    assert running.metrics.outages._value.get() == 1


def test_a_worker_at_maxmemory_waits_and_goes_on(host: MakeHost, client: Any) -> None:
    """What it has is renewed and finished; what cannot be begun now is kept, and begun later."""
    running = host()
    running.add("held", "ends", "waits")
    held, ends = running.streams.begin(running.streams.read(2))
    heir = running.worker("heir", 0.001)
    client.config_set("maxmemory", 1)
    try:
        for _ in range(2):
            with pytest.raises(ResponseError, match="maxmemory"):
                running.steps()
        both = [(held.delivery, held.job_id), (ends.delivery, ends.job_id)]
        assert running.streams.heartbeat(both) == []
        assert running.streams.finish([(ends, DONE)]) == [Outcome.SETTLED]
        assert until(lambda: heir.reclaim(1).deliveries)[0].entry == held.delivery.entry
        evidence = f"_crash:{held.delivery.entry}:me:1"
        assert client.hget(KEYS.result("held"), evidence) == b"company"
        assert running.room.jobs == []
    finally:
        client.config_set("maxmemory", 0)
    assert running.steps() == ["waits"]


def test_a_worker_starts_at_maxmemory(host: MakeHost, client: Any) -> None:
    """It cannot make sure of the group, which is there; it takes over, and waits to begin."""
    running = host()
    running.add("a")
    client.config_set("maxmemory", 1)
    try:
        running.intake.start()
        until(lambda: not running.intake.connected)
    finally:
        client.config_set("maxmemory", 0)
    until(lambda: running.room.jobs == ["a"])


def test_a_full_worker_knows_how_long_redis_was_away(host: MakeHost) -> None:
    """Between two looks at a full pipeline nothing is asked, and nothing was answered."""
    running = host(capacity=3, lease_seconds=1000)
    running.add("a", "b")
    running.intake.start()
    until(lambda: running.room.jobs == ["a", "b"])
    running.streams.away = True
    running.clock.now += 2
    until(lambda: running.streams.unanswered >= 3)
    assert not running.intake.connected
    running.clock.now += 300
    running.streams.away = False
    before = len(running.streams.reclaims)
    until(lambda: running.intake.connected)
    running.clock.now += 2
    until(lambda: len(running.streams.reclaims) >= before + 2)
    assert set(running.streams.reclaims[before:]) == {True}
    assert running.metrics.outages._value.get() == 1


def test_nobody_is_robbed_after_a_restart(host: MakeHost, own_server: EmbeddedRedis) -> None:
    """All leases look run out then, though their workers live: one lease long nobody reclaims."""
    running = host(own_server.url, lease_seconds=1000)
    running.intake.start()
    until(lambda: running.streams.reclaims)
    own_server.stop()
    until(lambda: not running.intake.connected)
    before = len(running.streams.reclaims)
    running.uptime_seconds = 0
    running.clock.tick = 2  # upkeep is due with every look
    own_server.start()
    until(lambda: running.intake.connected and len(running.streams.reclaims) >= before + 3)
    assert set(running.streams.reclaims[before:]) == {True}
    running.clock.now += 1001
    until(lambda: False in running.streams.reclaims[before:])


def test_after_a_restart_what_was_given_back_is_taken_at_once(host: MakeHost) -> None:
    """It belongs to nobody; what another holds is left alone for one lease."""
    running = host(lease_seconds=0.4, robbed_after_seconds=0.001)
    running.add("held", "given")
    _, given = running.take(2)
    assert running.worker("other").give_back([(given.delivery, given.job_id)]) == 1
    running.uptime_seconds = 0.1
    running.intake.start()
    until(lambda: running.room.jobs == ["given"])
    assert running.streams.reclaims == [True]
    running.clock.now += 0.4
    until(lambda: "held" in running.room.jobs)
    assert running.streams.reclaims[-1] is False


def test_a_server_that_has_long_been_up_tells_who_is_silent(host: MakeHost) -> None:
    """A worker that starts beside it takes over what was abandoned without delay."""
    running = host(lease_seconds=1000)
    running.uptime_seconds = 1001
    running.intake.start()
    until(lambda: running.streams.reclaims)
    assert running.streams.reclaims[0] is False


def test_an_unknown_uptime_counts_as_a_restart(host: MakeHost) -> None:
    """Better to wait a lease than to rob everybody."""
    running = host()

    def away() -> float:
        raise RedisConnectionError("reset")

    running.intake._uptime_seconds = away
    running.intake.start()
    until(lambda: running.streams.reclaims)
    assert set(running.streams.reclaims) == {True}


def test_the_intake_outlives_an_unexpected_error(host: MakeHost) -> None:
    """A worker that lives and takes no jobs would be missed by nobody."""
    running = host()
    running.streams.faults = [RuntimeError("boom")]
    running.add("a")
    running.intake.start()
    until(lambda: running.room.jobs == ["a"])


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
