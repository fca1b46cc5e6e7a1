"""What a running worker does for entries that are in nobody's list; on real servers."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.intake_host import KEYS, MakeHost, hosts


@pytest.fixture
def host(client: Any, redis_server: EmbeddedRedis) -> Iterator[MakeHost]:
    """Make hosts on the emptied server."""
    with hosts(redis_server.url) as make:
        yield make


@pytest.mark.parametrize("lane", list(Lane))
def test_jobs_of_a_consumer_that_was_deleted_are_run_within_a_minute(
    host: MakeHost, lane: Lane
) -> None:
    """Begun there or not: they are found by the look that is due, and told of."""
    running = host()
    running.steps()  # the first look is at the start, and finds nothing
    running.add("begun", "read", lane=lane)
    running.take()
    assert len(running.worker("other").read(1)) == 1
    assert running.client.xgroup_delconsumer(KEYS.lane(lane), "workers", "other") == 2
    with capture_logs() as logs:
        running.clock.now += 60
        assert running.steps(2) == ["begun", "read"]
    assert [line["entries"] for line in logs if line["event"] == "entries.stranded"] == [2]
    assert [task.ticket.crashes for task in running.room.tasks] == [1, 0]


def test_consumers_that_are_long_gone_are_removed(host: MakeHost) -> None:
    """Silent and with nothing in hand; whoever holds something stays, however silent."""
    running = host()
    running.add("held")
    running.take()
    running.client.xgroup_createconsumer("emo:jobs", "workers", "gone")

    def known() -> set[bytes]:
        return {each["name"] for each in running.client.xinfo_consumers("emo:jobs", "workers")}

    reap = running.streams.reap
    asked: list[float] = []

    def silent_for_long(*, idle_seconds: float) -> int:
        asked.append(idle_seconds)
        return reap(idle_seconds=-1)

    running.streams.reap = silent_for_long  # type: ignore[method-assign]  # the server's clock
    running.steps()
    assert asked == [60]
    assert b"gone" not in known()
    assert b"other" in known()
