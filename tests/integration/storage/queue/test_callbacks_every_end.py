"""Every way in which a job with a callback may end: each is told once."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.batches import Batching
from storage.queue.entries import Ends, Outcome, Verdict
from storage.queue.steps import Driver
from storage.queue.streams import JobStreams
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.callbacks import URL, add, cancel, told
from tests.support.polling import until
from tests.support.stream_workers import DONE, Worker, begin_one, new_streams

PAST = "1"


def late(client: Any, one: Any, keys: Keys) -> None:
    """Its deadline passes before it is begun; nothing but its entry knows of it."""
    add(client, job="x", deadline_ms=PAST)
    assert one.begin(one.read(1))[0].verdict is Verdict.EXPIRED


def late_submission(client: Any, one: Any, keys: Keys) -> None:
    """The same of one that was submitted, and so has a hash."""
    side = Submissions(client, keys=keys, max_backlog=9)
    side.submit(Job("x", "a.wav", callback=URL, deadline_ms=1), Lane.NORMAL)
    assert one.begin(one.read(1))[0].verdict is Verdict.EXPIRED


def late_retry(client: Any, one: Any, keys: Keys) -> None:
    """Its retry would come after its deadline."""
    now_ms = int(client.time()[0]) * 1000
    add(client, job="x", deadline_ms=str(now_ms + 60_000))
    begun = begin_one(one)
    retried = one.retry(begun, delay_seconds=3600, code="internal", message="x")
    assert retried is Outcome.EXPIRED


def cancelled_submission(client: Any, one: Any, keys: Keys) -> None:
    """Before anybody has begun it."""
    side = Submissions(client, keys=keys, max_backlog=9)
    side.submit(Job("x", "a.wav", callback=URL), Lane.NORMAL)
    assert cancel(client, keys, "x") == "CANCELLED"


def cancelled_aside(client: Any, one: Any, keys: Keys) -> None:
    """While its lane is put aside."""
    side = Submissions(client, keys=keys, max_backlog=9)
    side.submit(Job("x", "a.wav", callback=URL), Lane.NORMAL)
    client.xadd("emo:jobs", {"key": "far.wav"}, id=LAST)
    one.healing._heal(
        keys=[keys.lane(Lane.NORMAL), keys.aside(Lane.NORMAL)], args=["emo", "workers"]
    )
    assert cancel(client, keys, "x") == "CANCELLED"


def cancelled_in_flight(client: Any, one: Any, keys: Keys) -> None:
    """While a worker has it."""
    add(client, job="x")
    begun = begin_one(one)
    assert cancel(client, keys, "x") == "CANCELLED"
    assert one.finish([(begun, DONE)]) == [Outcome.ALREADY]


def cancelled_retry(client: Any, one: Any, keys: Keys) -> None:
    """While it waits for its retry."""
    add(client, job="x")
    one.retry(begin_one(one), delay_seconds=3600, code="internal", message="x")
    assert cancel(client, keys, "x") == "CANCELLED"


def halted(client: Any, one: Any, keys: Keys) -> None:
    """With its batch, before it is begun."""
    driver, batching = Driver(client), Batching(keys, Ends())
    driver.run(batching.cancel("b"))
    add(client, job="x", batch="b")
    assert one.begin(one.read(1))[0].verdict is Verdict.CANCELLED


def halted_in_flight(client: Any, one: Any, keys: Keys) -> None:
    """With its batch, while a worker has it."""
    driver, batching = Driver(client), Batching(keys, Ends())
    add(client, job="x", batch="b")
    begun = begin_one(one)
    driver.run(batching.cancel("b"))
    assert one.heartbeat([(begun.delivery, "x")]) == [begun.delivery]


def halted_retry(client: Any, one: Any, keys: Keys) -> None:
    """With its batch, when its retry is due."""
    driver, batching = Driver(client), Batching(keys, Ends())
    add(client, job="x", batch="b")
    one.retry(begin_one(one), delay_seconds=0, code="internal", message="x")
    driver.run(batching.cancel("b"))
    one.promote()


def lost(client: Any, one: Any, keys: Keys) -> None:
    """Somebody deleted its entry while a worker had it."""
    add(client, job="x")
    begun = begin_one(one)
    client.xdel("emo:jobs", begun.delivery.entry)
    assert one.retry(begun, delay_seconds=1, code="internal", message="x") is Outcome.GONE


def forgotten(client: Any, one: Any, keys: Keys) -> None:
    """The same, and its worker died: whoever takes over finds nothing."""
    add(client)
    client.xdel("emo:jobs", begin_one(one).delivery.entry)
    other = new_streams(JobStreams, client, keys, "two", 0.001)
    until(lambda: other.reclaim(9).gone)


def lost_retry(client: Any, one: Any, keys: Keys) -> None:
    """Somebody deleted the fields of its retry."""
    add(client, job="x")
    one.retry(begin_one(one), delay_seconds=0, code="internal", message="x")
    client.delete("emo:delayed:x")
    one.promote()


def without_hash(client: Any, one: Any, keys: Keys) -> None:
    """Somebody deleted its hash while a worker had it."""
    add(client, job="x")
    begun = begin_one(one)
    client.delete("emo:result:x")
    assert one.finish([(begun, DONE)]) == [Outcome.SETTLED]


def crash_looped(client: Any, one: Any, keys: Keys) -> None:
    """Delivered too often without an end, and never begun."""
    entry = add(client, job="x")
    one.read(1)
    client.xclaim("emo:jobs", "workers", "one", 0, [entry], idle=86_400_000, retrycount=10)
    assert one.reclaim(1).dead == ["x"]


def after_retry(client: Any, one: Any, keys: Keys) -> None:
    """After another try."""
    add(client, job="x")
    one.retry(begin_one(one), delay_seconds=0, code="internal", message="x")
    one.promote()
    one.finish([(begin_one(one), DONE)])


def rescued(client: Any, one: Any, keys: Keys) -> None:
    """From a lane that was put aside, and begun by nobody."""
    entry = add(client)
    client.xadd("emo:jobs", {"key": "far.wav"}, id=LAST)
    one.healing.heal()
    assert cancel(client, keys, entry) == "CANCELLED"


WAYS: list[tuple[Callable[[Any, Any, Keys], None], str]] = [
    (late, "expired"),
    (late_submission, "expired"),
    (late_retry, "expired"),
    (cancelled_submission, "cancelled"),
    (cancelled_aside, "cancelled"),
    (cancelled_in_flight, "cancelled"),
    (cancelled_retry, "cancelled"),
    (halted, "cancelled"),
    (halted_in_flight, "cancelled"),
    (halted_retry, "cancelled"),
    (lost, "failed"),
    (forgotten, "failed"),
    (lost_retry, "failed"),
    (without_hash, "done"),
    (crash_looped, "dead"),
    (after_retry, "done"),
    (rescued, "cancelled"),
]


@pytest.mark.parametrize(("end", "status"), WAYS, ids=[end.__name__ for end, _ in WAYS])
def test_every_way_to_end_is_told_once(
    client: Any, keys: Keys, worker: Worker, end: Callable[..., None], status: str
) -> None:
    """Also where no worker has begun the job."""
    end(client, worker("one", 60), keys)
    assert [(event["status"], event["callback"]) for event in told(client)] == [(status, URL)]
    ended = [fields[b"status"].decode() for _, fields in client.xrange("emo:results")]
    assert ended.count(status) >= 1


@pytest.mark.parametrize(("end", "status"), WAYS, ids=[end.__name__ for end, _ in WAYS])
def test_no_way_to_end_is_stopped_by_what_is_no_stream(
    client: Any, keys: Keys, worker: Worker, end: Callable[..., None], status: str
) -> None:
    """It is put aside, and the end told."""
    client.set("emo:webhooks", "somebody's")
    end(client, worker("one", 60), keys)
    assert [event["status"] for event in told(client)] == [status]
