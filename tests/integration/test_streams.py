"""The delivery protocol, against a real server."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from storage.messages import Keys, Lane, Status
from storage.streams import (
    MAX_DELIVERIES,
    Begun,
    Delivery,
    Ending,
    JobStreams,
    Outcome,
    Verdict,
)
from tests.polling import until

Worker = Callable[..., JobStreams]
DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9"})


@pytest.fixture
def worker(client: Any, keys: Keys) -> Worker:
    """Make workers' sides of the protocol, by owner name, with leases that run out at once."""

    def make(owner: str = "one", lease_seconds: float = 0.001) -> JobStreams:
        streams = JobStreams(
            client,
            owner=owner,
            keys=keys,
            lease_seconds=lease_seconds,
            result_ttl_seconds=60,
            results_maxlen=1000,
        )
        streams.create_group()
        return streams

    return make


def begin_one(streams: JobStreams) -> Begun:
    """Read one entry and begin it."""
    (begun,) = streams.begin(streams.read(1))
    assert begun.verdict is Verdict.RUN
    return begun


def reclaim_one(streams: JobStreams) -> Delivery:
    """Take over the one entry whose lease of a millisecond has run out."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = streams.reclaim(10).deliveries
        if found:
            (delivery,) = found
            return delivery
    raise AssertionError("nothing to reclaim")


def result(client: Any, job: str) -> dict[str, str]:
    """A result hash as text."""
    return {k.decode(): v.decode() for k, v in client.hgetall(f"emo:result:{job}").items()}


def test_a_job_enqueued_before_any_worker_exists_is_read(client: Any, worker: Worker) -> None:
    """The group begins at 0: what was enqueued first is not lost."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"})
    (delivery,) = worker().read(5)
    assert delivery.entry.encode() == entry
    assert delivery.fields == {b"key": b"a.wav"}
    assert delivery.count == 1


def test_lanes_share_the_free_places(client: Any, worker: Worker) -> None:
    """A full high lane leaves the lower lanes their shares."""
    for stream in ("emo:jobs:high", "emo:jobs", "emo:jobs:bulk"):
        for _ in range(20):
            client.xadd(stream, {"key": "a.wav"})
    lanes = [delivery.lane for delivery in worker().read(10)]
    assert [lanes.count(lane) for lane in Lane] == [7, 2, 1]


def test_unused_shares_are_passed_on(client: Any, worker: Worker) -> None:
    """Where only the bulk lane has jobs, it gets every free place, and never more."""
    for _ in range(20):
        client.xadd("emo:jobs:bulk", {"key": "a.wav"})
    assert len(worker().read(10)) == 10


def test_the_same_entry_id_in_two_lanes_is_two_jobs(client: Any, worker: Worker) -> None:
    """Entry ids are unique in their stream only, so the lane is part of the job's default id."""
    client.xadd("emo:jobs", {"key": "a.wav"}, id="7-1")
    client.xadd("emo:jobs:high", {"key": "b.wav"}, id="7-1")
    streams = worker()
    begun = streams.begin(streams.read(10))
    assert {b.job_id for b in begun} == {"7-1", "high-7-1"}
    assert streams.finish([(b, DONE) for b in begun]) == [Outcome.SETTLED] * 2


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


def test_a_worker_that_lost_its_entry_is_fenced(client: Any, worker: Worker) -> None:
    """After a takeover the first worker's finish, retry and heartbeat change nothing."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one, two = worker("one"), worker("two")
    stale = begin_one(one)
    taken = reclaim_one(two)
    assert taken.count == 2
    (begun,) = two.begin([taken])
    assert begun.deliveries == 2
    assert begun.crashes == 1
    assert one.heartbeat([stale.delivery]) == [stale.delivery]
    assert one.retry(stale, delay_seconds=0, code="internal", message="") is Outcome.FENCED
    assert one.finish([(stale, DONE)]) == [Outcome.FENCED]
    assert result(client, "x")["worker"] == "two"
    assert two.finish([(begun, DONE)]) == [Outcome.SETTLED]
    assert client.xlen("emo:results") == 1


def test_a_heartbeat_keeps_an_entry(client: Any, worker: Worker) -> None:
    """A renewed lease does not count as a delivery, and the entry stays with its worker."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    one, two = worker("one", 60), worker("two", 60)
    begun = begin_one(one)
    assert one.heartbeat([begun.delivery]) == []
    assert two.reclaim(10).deliveries == []
    assert one.finish([(begun, DONE)]) == [Outcome.SETTLED]


def test_a_retry_waits_and_comes_back_as_the_same_job(client: Any, worker: Worker) -> None:
    """The payload survives, unknown fields too; the second attempt has the same job id."""
    client.xadd("emo:jobs", {"key": "a.wav", "colour": b"\xff"})
    streams = worker()
    first = begin_one(streams)
    outcome = streams.retry(first, delay_seconds=0, code="storage_unavailable", message="away")
    assert outcome is Outcome.RETRYING
    assert result(client, first.job_id)["status"] == "retrying"
    assert client.xlen("emo:jobs") == 0
    assert streams.promote() == 1
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
    assert streams.promote() == 0
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


def test_a_job_past_its_deadline_is_not_begun(client: Any, worker: Worker) -> None:
    """It ends as expired without costing any work."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x", "deadline_ms": 1})
    streams = worker()
    (begun,) = streams.begin(streams.read(1))
    assert begun.verdict is Verdict.EXPIRED
    assert result(client, "x")["status"] == "expired"
    assert client.xlen("emo:jobs") == 0


def test_a_second_entry_of_a_live_job_is_dropped(client: Any, worker: Worker) -> None:
    """The same id enqueued twice by plain XADD runs once."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    streams = worker()
    first, second = streams.begin(streams.read(2))
    assert (first.verdict, second.verdict) == (Verdict.RUN, Verdict.REPEATED)
    assert streams.finish([(first, DONE)]) == [Outcome.SETTLED]


def test_an_entry_of_an_ended_job_is_dropped(client: Any, worker: Worker) -> None:
    """A result that stands is not made again."""
    streams = worker()
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    streams.finish([(begin_one(streams), DONE)])
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    (begun,) = streams.begin(streams.read(1))
    assert begun.verdict is Verdict.ENDED
    assert client.xlen("emo:jobs") == 0
    assert client.xlen("emo:results") == 1


def test_internal_fields_from_outside_are_ignored(client: Any, worker: Worker) -> None:
    """`_job` is believed only where the job's hash names this entry."""
    client.hset("emo:result:victim", mapping={"status": "running", "_entry": "1-1"})
    client.xadd("emo:jobs", {"key": "a.wav", "_job": "victim"}, id="5-0")
    assert begin_one(worker()).job_id == "5-0"


def test_a_foreign_value_under_a_result_key_stops_nobody(client: Any, worker: Worker) -> None:
    """A string where a hash belongs makes way, instead of failing the whole batch for ever."""
    client.set("emo:result:x", "mine")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    client.xadd("emo:jobs", {"key": "b.wav"})
    streams = worker()
    begun = streams.begin(streams.read(2))
    assert [b.verdict for b in begun] == [Verdict.RUN] * 2


def test_what_is_given_back_is_anybodys_at_once(client: Any, worker: Worker) -> None:
    """A drained worker's jobs neither wait for the lease nor count as crashes or deliveries."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one, two = worker("one", 3600), worker("two", 3600)
    begun = begin_one(one)
    assert one.give_back([(begun.delivery, begun.job_id)]) == 1
    assert result(client, "x")["status"] == "queued"
    assert one.finish([(begun, DONE)]) == [Outcome.FENCED]
    taken = reclaim_one(two)
    assert taken.count == 1
    (again,) = two.begin([taken])
    assert again.crashes == 0
    assert two.finish([(again, DONE)]) == [Outcome.SETTLED]


def test_a_job_that_never_ends_becomes_a_dead_letter(client: Any, worker: Worker) -> None:
    """After the last allowed delivery it is moved to emo:dead with its payload and reason."""
    client.xadd("emo:jobs", {"key": "bad.wav", "job": "x"})
    one, two = worker("one"), worker("two")
    begin_one(one)
    client.xclaim(
        "emo:jobs",
        "workers",
        "one",
        0,
        [client.xrange("emo:jobs")[0][0]],
        retrycount=MAX_DELIVERIES,
    )
    deadline = time.monotonic() + 5
    while not (found := two.reclaim(10)).dead:
        assert time.monotonic() < deadline
    assert found.deliveries == []
    assert result(client, "x")["status"] == "dead"
    ((_, letter),) = client.xrange("emo:dead")
    assert letter[b"key"] == b"bad.wav"
    assert letter[b"_reason"] == b"crash_loop"
    assert letter[b"_owner"] == b"one"
    assert client.xlen("emo:jobs") == 0


def test_a_dead_letter_keeps_the_original_fields(client: Any, worker: Worker) -> None:
    """A worker's own dead letter holds what was enqueued, the reason and the attempts."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x", "colour": "red"})
    streams = worker()
    ending = Ending(Status.DEAD, {"error_code": "internal"}, dead_reason="internal")
    assert streams.finish([(begin_one(streams), ending)]) == [Outcome.SETTLED]
    ((_, letter),) = client.xrange("emo:dead")
    assert letter[b"colour"] == b"red"
    assert letter[b"_attempts"] == b"1"


def test_an_entry_whose_payload_is_gone_is_cleared(client: Any, worker: Worker) -> None:
    """A pending entry that somebody deleted does not come back for ever."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"})
    one, two = worker("one"), worker("two")
    one.read(1)
    client.xdel("emo:jobs", entry)
    deadline = time.monotonic() + 5
    while not (found := two.reclaim(10)).gone:
        assert time.monotonic() < deadline
    assert found.deliveries == []
    assert client.xpending("emo:jobs", "workers")["pending"] == 0


def test_only_silent_consumers_that_hold_nothing_are_reaped(client: Any, worker: Worker) -> None:
    """Deleting a consumer destroys its pending list, so one that holds an entry stays."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    holder, idle = worker("holder"), worker("idle")
    holder.read(1)
    idle.read(1)

    def names() -> list[bytes]:
        holder.reap(idle_seconds=0.001)
        return [c["name"] for c in client.xinfo_consumers("emo:jobs", "workers")]

    # In the other lanes the holder holds nothing either, and may be reaped there first.
    until(lambda: b"idle" not in names())
    assert names() == [b"holder"]


def test_a_flushed_server_is_usable_again(client: Any, worker: Worker) -> None:
    """Scripts count a missing group as fenced, and the group can be made again."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    begun = begin_one(streams)
    client.flushall()
    client.script_flush()
    assert streams.finish([(begun, DONE)]) == [Outcome.FENCED]
    assert streams.reclaim(5).deliveries == []
    streams.create_group()
    client.xadd("emo:jobs", {"key": "b.wav"})
    assert streams.finish([(begin_one(streams), DONE)]) == [Outcome.SETTLED]


def test_repeated_field_names_survive_a_retry(client: Any, worker: Worker) -> None:
    """Thousands of them are one field, the last; the job comes back and ends."""
    command = ["XADD", "emo:jobs", "*", "key", "a.wav", *(["a", "1"] * 4200)]
    client.execute_command(*command)
    streams = worker()
    outcome = streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    assert outcome is Outcome.RETRYING
    assert streams.promote() == 1
    again = begin_one(streams)
    assert again.delivery.fields[b"a"] == b"1"
    assert streams.finish([(again, DONE)]) == [Outcome.SETTLED]


def test_one_spoilt_lane_does_not_swallow_the_others(client: Any, worker: Worker) -> None:
    """What was read or taken over before a lane raised is handed out."""
    client.xadd("emo:jobs:high", {"key": "a.wav"})
    one, two = worker("one"), worker("two")
    client.delete("emo:jobs:bulk")
    client.set("emo:jobs:bulk", "spoilt")
    (delivery,) = one.read(10)
    assert delivery.lane is Lane.HIGH
    assert reclaim_one(two).entry == delivery.entry
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        one.read(10)


@pytest.mark.parametrize("key", ["emo:results", "emo:dead"])
def test_a_spoilt_key_stops_a_batch_before_it_begins(client: Any, worker: Worker, key: str) -> None:
    """Nothing is half done: after the key is put right, everything goes on."""
    streams = worker()
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    client.xadd("emo:jobs", {"key": "a.wav", "job": "late", "deadline_ms": 1})
    deliveries = streams.read(2)
    client.set(key, "spoilt")
    with pytest.raises(redis.ResponseError, match=key):
        streams.begin(deliveries)
    assert not client.exists("emo:result:x")
    client.delete(key)
    assert [b.verdict for b in streams.begin(deliveries)] == [Verdict.RUN, Verdict.EXPIRED]


def test_a_retry_that_its_lane_cannot_take_is_kept(client: Any, worker: Worker) -> None:
    """A lane of the wrong type loses no payload; put right, the job comes back."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    client.delete("emo:jobs")
    client.set("emo:jobs", "spoilt")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        streams.promote()
    client.delete("emo:jobs")
    streams.create_group()
    assert streams.promote() == 1
    assert begin_one(streams).attempts == 2


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


def test_a_garbled_hash_does_not_jam_a_worker(client: Any, worker: Worker) -> None:
    """What cannot be understood in a job's hash counts as absent."""
    garbled = dict.fromkeys(("deliveries", "_retries", "_entry", "_enqueued_ms", "run"), "what?")
    client.hset("emo:result:x", mapping=garbled)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    begun = begin_one(worker())
    assert (begun.attempts, begun.deliveries, begun.run) == (1, 1, 1)


def test_a_finish_that_is_repeated_knows_its_own_result(client: Any, worker: Worker) -> None:
    """After a lost reply the repeat finds the job ended, not lost to another worker."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    streams = worker()
    begun = begin_one(streams)
    assert streams.finish([(begun, DONE)]) == [Outcome.SETTLED]
    assert streams.finish([(begun, DONE)]) == [Outcome.ALREADY]
    assert client.xlen("emo:results") == 1


def test_only_what_was_given_back_is_taken_while_leases_cannot_be_trusted(
    client: Any, worker: Worker
) -> None:
    """Neither a fresh entry nor one that is armed, however long it seems idle."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    client.xadd("emo:jobs", {"key": "b.wav"})
    one, two = worker("one"), worker("two")
    kept, given = one.begin(one.read(2))
    one.give_back([(given.delivery, given.job_id)])
    day = {"idle": 2 * 86_400_000, "retrycount": 1, "justid": True}
    client.xclaim("emo:jobs", "workers", "one", 0, [kept.delivery.entry], **day)
    taken = two.reclaim(10, given_back_only=True).deliveries
    assert [delivery.entry for delivery in taken] == [given.delivery.entry]


def test_a_job_whose_entry_was_deleted_fails_and_says_so(client: Any, worker: Worker) -> None:
    """Somebody trimmed the lane: the hash does not say `running` for ever."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"})
    one, two = worker("one"), worker("two")
    begin_one(one)
    client.xdel("emo:jobs", entry)
    deadline = time.monotonic() + 5
    while not two.reclaim(10).gone:
        assert time.monotonic() < deadline
    failed = result(client, entry.decode())
    assert (failed["status"], failed["error_code"]) == ("failed", "internal")
    assert client.xlen("emo:results") == 1
