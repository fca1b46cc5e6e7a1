"""The intake when Redis goes away, is full, starts again, or its clock jumps: on real servers."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from structlog.testing import capture_logs

from storage.queue.entries import Outcome
from storage.redis.embedded import EmbeddedRedis
from tests.support.intake_host import KEYS, MakeHost, hosts
from tests.support.polling import until
from tests.support.stream_workers import DONE


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
        until(lambda: running.pending("me")[0]["time_since_delivered"] > 1)  # heir's lease, in ms
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
    running = host(lease_seconds=0.4)
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


def test_a_server_whose_clock_jumps_robs_nobody(host: MakeHost) -> None:
    """All leases look run out then, though their workers live: one lease long none is taken."""
    running = host(lease_seconds=1000)
    running.add("held")
    running.take()
    running.streams.reclaim(0)
    assert running.streams._takeover._ahead_ms is not None
    running.streams._takeover._ahead_ms -= 3_600_000
    running.streams.reclaims.clear()
    assert running.steps(3) == []
    assert running.streams.reclaims == [False, True, True]
    running.clock.now += 1001
    assert running.steps() == ["held"]


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


def test_a_server_that_may_lose_jobs_is_warned_of_each_hour(host: MakeHost) -> None:
    """At the start too; and nothing is asked in between."""
    running = host()
    running.weaknesses = ["it forgets"]
    with capture_logs() as logs:
        running.steps(2)
        assert [each["why"] for each in logs if each["event"] == "redis.not_durable"] == [
            "it forgets"
        ]
        running.clock.now += 3600
        running.steps(2)
    assert [each["event"] for each in logs].count("redis.not_durable") == 2
