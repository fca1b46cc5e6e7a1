"""What is handed out, and what begin makes of it, against a real server."""

import random
from typing import Any

import pytest
import redis

from storage.queue.entries import Outcome, Verdict
from storage.wire.messages import Lane
from tests.support.polling import until
from tests.support.stream_workers import DONE, Worker, begin_one, reclaim_one, result


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


def test_few_free_places_are_shared_too(
    client: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at a time: the bulk lane waits for its turn, and gets it, and no more are taken."""
    monkeypatch.setattr("storage.queue.reader.random", random.Random(1))
    for stream in ("emo:jobs:high", "emo:jobs", "emo:jobs:bulk"):
        for _ in range(240):
            client.xadd(stream, {"key": "a.wav"})
    streams = worker()
    reads = [streams.read(3) for _ in range(80)]
    assert {len(taken) for taken in reads} == {3}
    lanes = [delivery.lane for taken in reads for delivery in taken]
    high, normal, bulk = [lanes.count(lane) for lane in Lane]
    assert high > normal > bulk
    assert 6 <= bulk <= 44  # 24, give or take four deviations


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


def test_a_garbled_hash_does_not_jam_a_worker(client: Any, worker: Worker) -> None:
    """What cannot be understood in a job's hash counts as absent."""
    garbled = dict.fromkeys(("deliveries", "_retries", "_entry", "_enqueued_ms", "run"), "what?")
    client.hset("emo:result:x", mapping=garbled)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    begun = begin_one(worker())
    assert (begun.attempts, begun.deliveries, begun.run) == (1, 1, 1)


def test_one_spoilt_lane_does_not_swallow_the_others(client: Any, worker: Worker) -> None:
    """What was read or taken over before a lane raised is handed out."""
    client.xadd("emo:jobs:high", {"key": "a.wav"})
    one, two = worker("one"), worker("two")
    client.delete("emo:jobs:bulk")
    client.set("emo:jobs:bulk", "spoilt")
    (delivery,) = one.read(10)
    assert delivery.lane is Lane.HIGH
    until(lambda: client.xpending_range("emo:jobs:high", "workers", "-", "+", 1, idle=2))
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
