"""How jobs end: results, retries and dead letters, against a real server."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.entries import Begun, Ending, Outcome
from storage.queue.streams import JobStreams
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.stream_workers import DONE, Worker, begin_one, result


def test_finish_leaves_a_readable_result_and_one_event(client: Any, worker: Worker) -> None:
    """The hash is the truth, the event tells it, and the lane is empty again."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "call-1"})
    streams = worker()
    begun = begin_one(streams)
    assert result(client, "call-1")["status"] == "running"
    assert client.ttl("emo:result:call-1") == -1
    assert streams.finish([(begun, DONE)]) == [Outcome.SETTLED]
    final = result(client, "call-1")
    assert final["status"] == "done"
    assert final["label"] == "happy"
    assert final["attempts"] == final["deliveries"] == final["run"] == "1"
    assert not [name for name in final if name.startswith("_")]
    assert 0 < int(client.pttl("emo:result:call-1")) <= 60_000
    ((_, event),) = client.xrange("emo:results")
    assert event[b"job"] == b"call-1"
    assert event[b"status"] == b"done"
    assert client.xlen("emo:jobs") == 0
    assert client.xpending("emo:jobs", "workers")["pending"] == 0


def test_a_finish_that_is_repeated_knows_its_own_result(client: Any, worker: Worker) -> None:
    """After a lost reply the repeat finds the job ended, not lost to another worker."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    begun = begin_one(streams)
    assert streams.finish([(begun, DONE)]) == [Outcome.SETTLED]
    assert streams.finish([(begun, DONE)]) == [Outcome.ALREADY]
    assert client.xlen("emo:results") == 1


def _finish(streams: JobStreams, begun: Begun) -> object:
    return streams.finish([(begun, DONE)])[0]


def _retry(streams: JobStreams, begun: Begun) -> object:
    return streams.retry(begun, delay_seconds=0, code="internal", message="")


@pytest.mark.parametrize("act", [_finish, _retry])
def test_a_deleted_entry_ends_no_newer_run(
    client: Any, worker: Worker, keys: Keys, act: Callable[[JobStreams, Begun], object]
) -> None:
    """Deleted by hand while it runs, and submitted anew: what comes of the old one is dropped."""
    submissions, streams = Submissions(client, keys=keys, max_backlog=100), worker()
    submissions.submit(Job("x", key="old.wav"), Lane.NORMAL)
    old = begin_one(streams)
    client.xdel("emo:jobs", old.delivery.entry)
    assert submissions.submit(Job("x", key="new.wav"), Lane.NORMAL).enqueued
    assert act(streams, old) is Outcome.FENCED
    known = result(client, "x")
    assert (known["status"], known["run"]) == ("queued", "2")
    assert client.xlen("emo:results") == 0
    assert client.xpending("emo:jobs", "workers")["pending"] == 0
    assert begin_one(streams).run == 2


def test_a_retry_waits_and_comes_back_as_the_same_job(client: Any, worker: Worker) -> None:
    """The payload survives, unknown fields too; the second attempt has the same job id."""
    client.xadd("emo:jobs", {"key": "a.wav", "colour": b"\xff"})
    streams = worker()
    first = begin_one(streams)
    outcome = streams.retry(first, delay_seconds=0, code="storage_unavailable", message="away")
    assert outcome is Outcome.RETRYING
    assert result(client, first.job_id)["status"] == "retrying"
    assert client.xlen("emo:jobs") == 0
    assert streams.promote().due == 1
    second = begin_one(streams)
    assert second.job_id == first.job_id
    assert second.attempts == 2
    assert second.enqueued_ms == first.enqueued_ms
    assert second.delivery.fields[b"colour"] == b"\xff"
    assert streams.finish([(second, DONE)]) == [Outcome.SETTLED]
    assert client.keys("emo:delayed*") == []


def test_a_retry_is_not_promoted_before_its_time(client: Any, worker: Worker) -> None:
    """What is due in an hour stays aside."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    streams.retry(begin_one(streams), delay_seconds=3600, code="internal", message="")
    assert streams.promote().due == 0
    assert client.zcard("emo:delayed") == 1


def test_a_retry_past_the_deadline_expires_at_once(client: Any, worker: Worker) -> None:
    """A job that could only be tried again too late ends now."""
    soon = int(time.time() * 1000) + 60_000
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x", "deadline_ms": soon})
    streams = worker()
    outcome = streams.retry(begin_one(streams), delay_seconds=3600, code="internal", message="")
    assert outcome is Outcome.EXPIRED
    assert result(client, "x")["error_code"] == "deadline_exceeded"
    assert client.xlen("emo:results") == 1


def test_repeated_field_names_survive_a_retry(client: Any, worker: Worker) -> None:
    """Thousands of them are one field, the last; the job comes back and ends."""
    command = ["XADD", "emo:jobs", "*", "key", "a.wav", *(["a", "1"] * 1900)]
    client.execute_command(*command)
    streams = worker()
    outcome = streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    assert outcome is Outcome.RETRYING
    assert streams.promote().due == 1
    again = begin_one(streams)
    assert again.delivery.fields[b"a"] == b"1"
    assert streams.finish([(again, DONE)]) == [Outcome.SETTLED]


def test_a_retry_that_its_lane_cannot_take_is_kept(client: Any, worker: Worker) -> None:
    """A lane of the wrong type loses no payload; put right, the job comes back."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    client.delete("emo:jobs")
    client.set("emo:jobs", "spoilt")
    promoted = streams.promote(postpone_seconds=0)
    assert (promoted.due, promoted.postponed) == (1, 1)
    assert "WRONGTYPE" in promoted.why
    client.delete("emo:jobs")
    streams.create_group()
    assert streams.promote().due == 1
    assert begin_one(streams).attempts == 2


def test_a_dead_letter_keeps_the_original_fields(client: Any, worker: Worker) -> None:
    """A worker's own dead letter holds what was enqueued, the reason and the attempts."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x", "colour": "red"})
    streams = worker()
    ending = Ending(Status.DEAD, {"error_code": "internal"}, dead_reason="internal")
    assert streams.finish([(begin_one(streams), ending)]) == [Outcome.SETTLED]
    ((_, letter),) = client.xrange("emo:dead")
    assert letter[b"colour"] == b"red"
    assert letter[b"_attempts"] == b"1"


def test_a_dead_letter_says_where_it_came_from(client: Any, worker: Worker) -> None:
    """Its own internal fields are ours, whatever the job brought along."""
    client.xadd("emo:jobs:high", {"key": "a.wav", "_job": "victim", "_reason": "spoof"})
    streams = worker()
    begun = begin_one(streams)
    streams.finish([(begun, Ending(Status.DEAD, {}, dead_reason="internal"))])
    ((_, letter),) = client.xrange("emo:dead")
    assert letter[b"_job"].decode() == begun.job_id
    assert letter[b"_reason"] == b"internal"
    assert letter[b"_lane"] == b"high"


def test_what_one_job_meets_stops_no_other(client: Any, keys: Keys, worker: Worker) -> None:
    """The server's word on each; those before and behind it are ended in the same round trip."""
    streams = worker("one", 60)
    for lane in (Lane.NORMAL, Lane.HIGH, Lane.BULK):
        client.xadd(keys.lane(lane), {"key": "a.wav", "job": f"job-{lane}"})
    begun = streams.begin(sorted(streams.read(10), key=lambda each: each.lane))
    assert [each.delivery.lane for each in begun] == [Lane.BULK, Lane.HIGH, Lane.NORMAL]
    client.set(keys.lane(Lane.HIGH), "no stream")
    first, between, last = streams.finish([(each, DONE) for each in begun])
    assert (first, last) == (Outcome.SETTLED, Outcome.SETTLED)
    assert "WRONGTYPE" in str(between)
    assert result(client, "job-high")["status"] == "running"


@pytest.mark.parametrize("other", [{"model": "tiny", "device": "cpu"}, {"model": "other"}, {}])
def test_what_all_have_in_common_is_said_of_those_that_are_done(
    client: Any, worker: Worker, other: dict[str, str]
) -> None:
    """It stands in every result of those that have it; in that of a failure it never does."""
    streams = worker("one", 60)
    for number in range(4):
        client.xadd("emo:jobs", {"key": "a.wav", "job": f"job-{number}"})
    common = {"model": "tiny", "device": "cpu"}
    endings = [
        Ending(Status.DONE, {"label": "sad"}, common=common),
        Ending(Status.FAILED, {"error_code": "not_audio"}),
        Ending(Status.DONE, {"label": "happy"}, common=common),
        Ending(Status.DONE, {"label": "angry"}, common=other),
    ]
    begun = streams.begin(streams.read(4))
    assert streams.finish(zip(begun, endings, strict=True)) == [Outcome.SETTLED] * 4
    told = [result(client, f"job-{number}") for number in range(4)]
    assert [each.get("model") for each in told] == ["tiny", None, "tiny", other.get("model")]
    assert [each.get("device") for each in told] == ["cpu", None, "cpu", other.get("device")]
    assert [each.get("label") for each in told] == ["sad", None, "happy", "angry"]
