"""Ends of jobs with a callback: each is told in `emo:webhooks` once, by the step that ends it."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.batches import Batching
from storage.queue.cancellation import Cancellations, Ends
from storage.queue.dead import DeadLetters
from storage.queue.entries import Ending, Outcome, Verdict
from storage.queue.steps import Driver
from storage.queue.streams import JobStreams
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.polling import until
from tests.support.stream_workers import (
    DONE,
    Worker,
    begin_one,
    new_streams,
    reclaim_one,
    result,
)

URL = "https://hooks.example.org/ends?of=jobs"
FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "a page"})
DEAD = Ending(Status.DEAD, {"error_code": "internal", "error": "x"}, dead_reason="internal")
PAST = "1"


def told(client: Any) -> list[dict[str, str]]:
    """What is to be sent, without its time."""
    found = [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in client.xrange("emo:webhooks")
    ]
    assert all(one.pop("finished_at_ms").isdigit() for one in found)
    return found


def add(client: Any, **fields: str) -> str:
    """A job with a callback, by plain XADD."""
    return str(client.xadd("emo:jobs", {"key": "a.wav", "callback": URL, **fields}).decode())


def cancel(client: Any, keys: Keys, job: str) -> str:
    """What the cancellation came to."""
    side = Cancellations(client, keys=keys, result_ttl_seconds=60, results_maxlen=9)
    return side.cancel(job).verdict.value


@pytest.mark.parametrize("ending", [DONE, FAILED, DEAD], ids=lambda ending: ending.status.value)
def test_an_end_is_told_once(client: Any, worker: Worker, ending: Ending) -> None:
    """Whatever it is; a finish that is repeated, since its reply was lost, tells nothing more."""
    one = worker()
    add(client, job="call.4711")
    begun = begin_one(one)
    assert told(client) == []
    assert one.finish([(begun, ending)]) == [Outcome.SETTLED]
    assert one.finish([(begun, ending)]) == [Outcome.ALREADY]
    (event,) = told(client)
    shown = {"error_code": ending.fields["error_code"]} if ending is not DONE else DONE.fields
    assert event == {
        "job": "call.4711",
        "run": "1",
        "status": ending.status.value,
        "callback": URL,
        **shown,
    }
    assert not any(name.startswith("_") for name in result(client, "call.4711"))


def test_a_job_without_a_callback_tells_nothing(client: Any, worker: Worker) -> None:
    """Nor does one whose callback cannot be called: it fails, and nobody could be told."""
    one = worker()
    cannot = [
        "",
        "ftp://h/",
        "https://",
        "https://u:p@h/",
        "https://h/ x",
        "http://h/" + "a" * 2048,
    ]
    for url in cannot:
        client.xadd("emo:jobs", {"key": "a.wav", "callback": url})
    client.xadd("emo:jobs", {"key": "a.wav"})
    begun = one.begin(one.read(50))
    assert one.finish([(each, DONE) for each in begun]) == [Outcome.SETTLED] * (len(cannot) + 1)
    assert not client.exists("emo:webhooks")


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


def test_plain_xadd_that_is_cancelled_before_it_is_begun(client: Any, keys: Keys) -> None:
    """Its entry alone knows where it is to be told."""
    entry = add(client)
    assert cancel(client, keys, entry) == "CANCELLED"
    assert [event["job"] for event in told(client)] == [entry]


def test_runs_are_told_one_by_one(
    client: Any, keys: Keys, worker: Worker, letters: DeadLetters
) -> None:
    """Replayed, and submitted again: with the callback that the run was sent with."""
    one = worker()
    add(client, job="x")
    one.finish([(begin_one(one), DEAD)])
    (letter,) = client.xrange("emo:dead")
    letters.replay(letter[0].decode())
    one.finish([(begin_one(one), FAILED)])
    again = Job("x", "a.wav", callback="http://other.example.org/")
    Submissions(client, keys=keys, max_backlog=9).submit(again, Lane.NORMAL)
    one.finish([(begin_one(one), DONE)])
    assert [(event["run"], event["status"], event["callback"]) for event in told(client)] == [
        ("1", "dead", URL),
        ("2", "failed", URL),
        ("3", "done", "http://other.example.org/"),
    ]


def test_two_workers_with_one_job_tell_one_end(client: Any, worker: Worker) -> None:
    """As they leave one result."""
    one, two = worker("one"), worker("two")
    add(client, job="x")
    late_one = begin_one(one)
    (begun,) = two.begin([reclaim_one(two)])
    assert two.finish([(begun, DONE)]) == [Outcome.SETTLED]
    assert one.finish([(late_one, FAILED)]) == [Outcome.FENCED]
    assert [event["status"] for event in told(client)] == ["done"]


def test_what_is_no_stream_stops_no_job(client: Any, worker: Worker) -> None:
    """It is put aside, and said; the stream is begun anew."""
    one = worker("one", 60)
    client.set("emo:webhooks", "somebody's")
    add(client, job="x")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "y"})
    begun = one.begin(one.read(9))
    assert one.finish([(each, DONE) for each in begun]) == [Outcome.SETTLED] * 2
    assert [event["job"] for event in told(client)] == ["x"]
    (healed,) = one.healing.healed()
    assert client.get(healed.what) == b"somebody's"


def test_a_sealed_one_stops_no_job(client: Any, worker: Worker) -> None:
    """Nor does one that takes no more ids; what it holds is kept."""
    one = worker("one", 60)
    client.xadd("emo:webhooks", {"job": "old"}, id=LAST)
    add(client, job="x")
    assert one.finish([(begin_one(one), DONE)]) == [Outcome.SETTLED]
    assert [event["job"] for event in told(client)] == ["x"]
    (healed,) = one.healing.healed()
    assert client.xlen(healed.what) == 1
