"""Ends of jobs with a callback: each is told in `emo:webhooks` once, by the step that ends it."""

from typing import Any

import pytest

from storage.queue.dead import DeadLetters
from storage.queue.entries import Ending, Outcome
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.callbacks import URL, add, cancel, told
from tests.support.stream_workers import DEAD, DONE, Worker, begin_one, reclaim_one, result

FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "a page"})


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
