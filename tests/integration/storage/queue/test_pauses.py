"""Lanes that are paused: nothing new of them runs, and nothing of them is lost."""

import threading
from typing import Any

import pytest

from storage.queue.entries import Delivery, Verdict
from storage.queue.lanes import Lanes
from storage.queue.pauses import LOOK_SECONDS, Pauses
from storage.queue.streams import JobStreams
from storage.wire.messages import Keys, Lane
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.stream_workers import DONE, Worker, begin_one, result


@pytest.fixture
def pauses(client: Any, keys: Keys) -> Pauses:
    """The operator's."""
    return Pauses(client, keys)


def seen(streams: JobStreams) -> None:
    """Let the worker look again: as if half a second had passed."""
    streams._reader.pauses._look_at = 0.0


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_a_paused_lane_is_not_read(client: Any, worker: Worker, pauses: Pauses) -> None:
    """The others are, by both kinds of reading; once it is resumed, it is read."""
    one = worker()
    for lane in ("emo:jobs", "emo:jobs:bulk"):
        client.xadd(lane, {"key": "a.wav"})
    assert pauses.pause(Lane.NORMAL)
    assert not pauses.pause(Lane.NORMAL)
    seen(one)
    assert [each.lane for each in one.read(20)] == [Lane.BULK]
    client.xadd("emo:jobs:high", {"key": "a.wav"})
    assert [each.lane for each in one.read_blocking(9, block_seconds=1)] == [Lane.HIGH]
    for lane in (Lane.HIGH, Lane.BULK):
        pauses.pause(lane)
    seen(one)
    assert one.read(20) == one.read_blocking(9, block_seconds=0.01) == []
    assert pauses.resume(Lane.NORMAL)
    assert not pauses.resume(Lane.NORMAL)
    seen(one)
    assert [each.lane for each in one.read(20)] == [Lane.NORMAL]


def test_a_worker_hears_of_it_within_half_a_second(
    client: Any, keys: Keys, worker: Worker, pauses: Pauses
) -> None:
    """Nobody tells it: it looks again."""
    one, clock = worker(), Clock()
    one._reader.pauses = Pauses(client, keys, clock)
    assert one.read(20) == []
    client.xadd("emo:jobs", {"key": "a.wav"})
    pauses.pause(Lane.NORMAL)
    pauses.resume(Lane.NORMAL)
    pauses.pause(Lane.NORMAL)
    clock.now += LOOK_SECONDS
    assert one.read(20) == []
    pauses.resume(Lane.NORMAL)
    clock.now += 0.9 * LOOK_SECONDS
    assert one.read(20) == []
    clock.now += 0.1 * LOOK_SECONDS
    assert one.read(20)


def test_what_a_blocked_worker_reads_is_given_back(
    client: Any, worker: Worker, pauses: Pauses
) -> None:
    """Given a pause while it waited; after the pause it is taken, and no delivery was counted."""
    one, found = worker("one"), list[Delivery]()
    reader = threading.Thread(
        target=lambda: found.extend(one.read_blocking(9, block_seconds=TIMEOUT_SECONDS / 2))
    )
    reader.start()
    until(lambda: client.info("clients")["blocked_clients"])
    pauses.pause(Lane.NORMAL)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    reader.join()
    assert [each.verdict for each in one.begin(found)] == [Verdict.PAUSED]
    assert not client.exists("emo:result:x")
    assert one.reclaim(20).deliveries == []
    pauses.resume(Lane.NORMAL)
    taken = one.reclaim(20).deliveries
    (begun,) = one.begin(taken)
    assert (begun.verdict, begun.deliveries, begun.delivery.count) == (Verdict.RUN, 1, 1)


def test_what_runs_ends(client: Any, worker: Worker, pauses: Pauses) -> None:
    """Also a begin whose reply was lost: that job is queued again, and nothing is against it."""
    one = worker()
    for job in ("runs", "lost"):
        client.xadd("emo:jobs", {"key": "a.wav", "job": job})
    runs, lost = begin_one(one), begin_one(one)
    pauses.pause(Lane.NORMAL)
    assert one.heartbeat([(runs.delivery, "runs")]) == []
    assert one.finish([(runs, DONE)]) == ["SETTLED"]
    assert [each.verdict for each in one.begin([lost.delivery])] == [Verdict.PAUSED]
    assert result(client, "lost")["status"] == "queued"
    assert not any(name.startswith("_crash") for name in result(client, "lost"))


def test_takeover_and_retries_hold_too(client: Any, worker: Worker, pauses: Pauses) -> None:
    """Those of other lanes do not wait; afterwards all goes on."""
    one, two = worker("one"), worker("two")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "dies"})
    begin_one(one)
    for lane, job in (("emo:jobs", "held"), ("emo:jobs:high", "free")):
        client.xadd(lane, {"key": "a.wav", "job": job})
        one.retry(begin_one(one), delay_seconds=0, code="internal", message="x")
    pauses.pause(Lane.NORMAL)
    promoted = one.promote(postpone_seconds=0.01)
    assert (promoted.due, promoted.postponed, promoted.why) == (2, 0, "")
    assert (client.xlen("emo:jobs"), client.xlen("emo:jobs:high")) == (1, 1)
    assert result(client, "held")["status"] == "retrying"
    assert two.reclaim(20).deliveries == []
    pauses.resume(Lane.NORMAL)
    assert until(lambda: one.promote().due) == 1
    assert until(lambda: two.reclaim(20).deliveries)


def test_the_lanes_tell_it(client: Any, keys: Keys, worker: Worker, pauses: Pauses) -> None:
    """And for how long; something else under that name pauses nothing."""
    worker()
    pauses.pause(Lane.BULK)
    assert 0 <= Lanes(client, keys=keys).look().paused_seconds[Lane.BULK] < 10
    client.hset("emo:paused", mapping={"high": "soon", "sideways": "1"})
    assert set(pauses.since_ms()) == {Lane.HIGH, Lane.BULK}
    client.delete("emo:paused")
    client.set("emo:paused", "x")
    one = worker()
    client.xadd("emo:jobs", {"key": "a.wav"})
    assert begin_one(one).verdict is Verdict.RUN
