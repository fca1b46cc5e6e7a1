"""What the lanes hold, against a real server."""

from typing import Any

import pytest
import redis

from storage.queue.entries import Ending
from storage.queue.lanes import Lanes, LaneState
from storage.wire.messages import Keys, Lane, Status
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.stream_workers import Worker, begin_one

SLOWEST_SECONDS = 60  # between a look and what is made of it here


@pytest.fixture
def lanes(client: Any, keys: Keys) -> Lanes:
    """The operators' side."""
    return Lanes(client, keys=keys)


class Since:
    """The ages that something of that second may have had when it was looked at, just now."""

    def __init__(self, client: Any, second: int) -> None:
        self._most = int(client.time()[0]) + 1 - second

    def __contains__(self, age_seconds: object) -> bool:
        assert isinstance(age_seconds, float | int)
        return self._most - SLOWEST_SECONDS <= age_seconds <= self._most


def by_lane(lanes: Lanes) -> dict[Lane, LaneState]:
    """The lanes by name."""
    return {state.lane: state for state in lanes.look().lanes}


def test_a_fresh_server_has_empty_lanes(client: Any, lanes: Lanes) -> None:
    """Before anything was enqueued, and nothing is created by looking."""
    overview = lanes.look()
    empty = [LaneState(lane, 0, 0, 0, 0, None, None, []) for lane in Lane]
    assert list(overview.lanes) == empty
    assert (overview.delayed, overview.dead) == (0, 0)
    assert client.keys("*") == []


def test_jobs_are_queued_before_any_worker_came(client: Any, lanes: Lanes) -> None:
    """Without a consumer group nothing is in flight."""
    client.xadd("emo:jobs:bulk", {"key": "a.wav"}, id="1000-0")
    client.xadd("emo:jobs:bulk", {"key": "b.wav"})
    bulk = by_lane(lanes)[Lane.BULK]
    assert (bulk.queued, bulk.in_flight) == (2, 0)
    assert bulk.oldest_queued_seconds in Since(client, 1)


def test_a_lane_that_somebody_sealed_is_shown(client: Any, lanes: Lanes, worker: Worker) -> None:
    """Its last id is delivered, and there is none behind it to ask for."""
    streams = worker()
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    begin_one(streams)
    normal = by_lane(lanes)[Lane.NORMAL]
    assert (normal.queued, normal.in_flight, normal.oldest_queued_seconds) == (0, 1, None)


def test_what_is_in_flight_is_not_queued(client: Any, lanes: Lanes, worker: Worker) -> None:
    """Each has its own oldest, and the worker that has it is named."""
    streams = worker()
    client.xgroup_createconsumer("emo:jobs", "workers", "idle")
    now = client.time()[0]
    for age_seconds in (500, 300, 100):
        client.xadd("emo:jobs", {"key": "a.wav"}, id=f"{(now - age_seconds) * 1000}-0")
    client.xadd("emo:jobs:high", {"key": "a.wav"})
    delivered = streams.read_blocking(3, block_seconds=1.0)  # the oldest of each lane
    assert {delivery.lane for delivery in delivered} == {Lane.HIGH, Lane.NORMAL}
    found = by_lane(lanes)
    high, normal = found[Lane.HIGH], found[Lane.NORMAL]
    assert (high.queued, high.in_flight) == (0, 1)
    assert (normal.queued, normal.in_flight) == (2, 1)
    assert normal.oldest_in_flight_seconds in Since(client, now - 500)
    assert normal.oldest_queued_seconds in Since(client, now - 300)
    assert high.oldest_queued_seconds is None
    held = {one.name: one.in_flight for one in normal.consumers}
    assert held == {"one": 1, "idle": 0}
    assert all(0 <= one.idle_seconds < 60 for one in normal.consumers)


def test_what_was_given_back_is_queued(client: Any, lanes: Lanes, worker: Worker) -> None:
    """Nobody has it: it waits for the next worker, as its job's status says."""
    now = client.time()[0]
    client.xadd("emo:jobs", {"key": "a.wav"}, id=f"{(now - 500) * 1000}-0")
    client.xadd("emo:jobs", {"key": "b.wav"})
    streams = worker()
    begun = begin_one(streams)
    assert streams.give_back([(begun.delivery, begun.job_id)]) == 1
    normal = by_lane(lanes)[Lane.NORMAL]
    assert (normal.queued, normal.in_flight) == (2, 0)
    assert normal.oldest_queued_seconds in Since(client, now - 500)
    assert normal.oldest_in_flight_seconds is None
    assert [(one.name, one.in_flight) for one in normal.consumers] == [("one", 0)]


def test_an_age_is_never_negative(client: Any, lanes: Lanes) -> None:
    """Senders may choose ids, also of a time to come."""
    client.xadd("emo:jobs", {"key": "a.wav"}, id="99999999999999-0")
    assert by_lane(lanes)[Lane.NORMAL].oldest_queued_seconds == 0


def test_retries_and_letters_are_counted_by_lane(client: Any, lanes: Lanes, worker: Worker) -> None:
    """Each in the lane that it goes back to."""
    streams = worker()
    for lane in ("emo:jobs:high", "emo:jobs:bulk"):
        client.xadd(lane, {"key": "a.wav"})
        streams.retry(begin_one(streams), delay_seconds=60, code="internal", message="")
    client.xadd("emo:jobs:bulk", {"key": "a.wav"})
    streams.finish([(begin_one(streams), Ending(Status.DEAD, {}, dead_reason="internal"))])
    client.xadd("emo:dead", {"by": "hand"})
    overview = lanes.look()
    assert (overview.delayed, overview.dead) == (2, 2)
    assert not overview.delayed_estimated
    assert not overview.dead_estimated
    assert {state.lane: (state.delayed, state.dead) for state in overview.lanes} == {
        Lane.HIGH: (1, 0),
        Lane.NORMAL: (0, 0),
        Lane.BULK: (1, 1),
    }


def test_the_newest_letter_has_an_age(client: Any, lanes: Lanes) -> None:
    """Of letters alone, whatever became of those before it; None where there are none."""
    assert lanes.look().newest_dead_seconds is None
    now = client.time()[0]
    for age_seconds in (500, 300):
        newest = client.xadd("emo:dead", {"_lane": "bulk"}, id=f"{(now - age_seconds) * 1000}-0")
    assert lanes.look().newest_dead_seconds in Since(client, now - 300)
    client.xdel("emo:dead", newest)
    assert lanes.look().newest_dead_seconds in Since(client, now - 500)


def test_beyond_the_sample_it_is_an_estimate(client: Any, keys: Keys) -> None:
    """Which says so; the totals are counted."""
    for number in range(40):
        client.zadd("emo:delayed", {f"j{number}": 1})
        client.hset(f"emo:delayed:j{number}", "_lane", "high")
        client.xadd("emo:dead", {"_lane": "bulk"})
    overview = Lanes(client, keys=keys, sample=10).look()
    assert (overview.delayed, overview.delayed_estimated) == (40, True)
    assert (overview.dead, overview.dead_estimated) == (40, True)
    assert [(state.delayed, state.dead) for state in overview.lanes] == [(40, 0), (0, 0), (0, 40)]


def test_its_cost_does_not_grow_with_the_backlog(client: Any, lanes: Lanes) -> None:
    """What it takes of the server with 20,000 jobs queued is what it takes with one."""

    def seconds() -> float:
        """Of its main thread's own time, which stands still while others have the processor."""
        before = client.info("cpu")
        for _ in range(50):
            lanes.look()
        after = client.info("cpu")
        parts = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        return float(sum(after[part] - before[part] for part in parts))

    client.xadd("emo:jobs", {"key": "a.wav"})
    lanes.look()
    alone = seconds()
    with client.pipeline(transaction=False) as batch:
        for number in range(20_000):
            batch.xadd("emo:jobs", {"key": f"{number}.wav"})
        batch.execute()
    # A scan of the lane would be hundreds of times as long.
    assert seconds() < 20 * alone


def test_a_lane_of_the_wrong_type_is_an_error(client: Any, lanes: Lanes) -> None:
    """It names the key."""
    client.set("emo:jobs", "spoilt")
    with pytest.raises(redis.ResponseError, match="emo:jobs must be a stream"):
        lanes.look()


def test_of_large_letters_fewer_are_looked_at(client: Any, keys: Keys) -> None:
    """A look holds the server up for a megabyte of them, not for a hundred."""
    for number in range(10):
        big = "x" * (512 * 1024)
        client.xadd("emo:dead", {"job": str(number), "_lane": "bulk", "key": big})
    seen = Lanes(client, keys=keys).look()
    assert (seen.dead, seen.dead_estimated) == (10, True)
    assert [each.dead for each in seen.lanes] == [0, 0, 10]
    client.xtrim("emo:dead", maxlen=2, approximate=False)
    assert Lanes(client, keys=keys).look().dead_estimated is False
