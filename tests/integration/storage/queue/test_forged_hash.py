"""What anyone may write into a hash of ours: no worker stops of it, and its job ends."""

from typing import Any

import pytest

from storage.queue.entries import Outcome, Verdict
from tests.support.polling import until
from tests.support.stream_workers import DONE, Worker, begin_one, result

FORGED = ["inf", "-inf", "nan", "-1e15", "1e300", "0x7fffffffffffffff", "-1", "9" * 5_000, "x", ""]
MOST = 2**53
# Lua hands on no more arguments than 8,000 at once.
MANY = 20_000


@pytest.mark.parametrize("value", FORGED, ids=[value[:20] for value in FORGED])
@pytest.mark.parametrize("name", ["_enqueued_ms", "_retries", "deliveries", "run"])
def test_a_number_that_is_none_stops_no_worker(
    client: Any, worker: Worker, name: str, value: str
) -> None:
    """It is begun with its neighbour, and with numbers that a worker can count with."""
    client.hset("emo:result:forged", name, value)
    for job in ("forged", "beside"):
        client.xadd("emo:jobs", {"key": "a.wav", "job": job})
    streams = worker("one", 60)
    forged, beside = streams.begin(streams.read(10))
    assert (forged.verdict, beside.verdict) == (Verdict.RUN, Verdict.RUN)
    for number in (forged.attempts, forged.deliveries, forged.run):
        assert 1 <= number <= MOST
    assert 0 <= forged.enqueued_ms <= MOST
    assert streams.finish([(forged, DONE), (beside, DONE)]) == [Outcome.SETTLED] * 2


@pytest.mark.parametrize("value", ["-1e15", "nan", "-inf", "-3"])
def test_a_forged_count_of_tries_grows_with_each(client: Any, worker: Worker, value: str) -> None:
    """Or the job would be tried for ever."""
    client.hset("emo:result:forged", "_retries", value)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "forged"})
    streams = worker("one", 60)
    attempts = []
    for _ in range(3):
        begun = begin_one(streams)
        attempts.append(begun.attempts)
        streams.retry(begun, delay_seconds=0, code="internal", message="again")
        streams.promote()
    assert attempts == [1, 2, 3]


def test_any_number_of_fields_is_cleared_at_the_end(client: Any, worker: Worker) -> None:
    """The job ends with its event, a time to live, and nothing left that is internal."""
    client.hset("emo:result:forged", mapping={f"_{number}": "x" for number in range(MANY)})
    client.xadd("emo:jobs", {"key": "a.wav", "job": "forged"})
    streams = worker("one", 60)
    assert streams.finish([(begin_one(streams), DONE)]) == [Outcome.SETTLED]
    assert not [name for name in result(client, "forged") if name.startswith("_")]
    assert client.ttl("emo:result:forged") > 0
    ((_, event),) = client.xrange("emo:results")
    assert (event[b"job"], event[b"status"]) == (b"forged", b"done")


def test_a_retry_with_too_many_fields_ends_and_the_others_go_on(
    client: Any, worker: Worker
) -> None:
    """No worker wrote it, and none can put it back."""
    streams = worker("one", 60)
    for job in ("a", "forged", "z"):
        client.xadd("emo:jobs", {"key": "a.wav", "job": job})
        streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="again")
    client.hset("emo:delayed:forged", mapping={f"{number}": "x" for number in range(MANY)})
    until(lambda: streams.promote().due == 0)
    assert [begun.job_id for begun in streams.begin(streams.read(10))] == ["a", "z"]
    assert result(client, "forged")["status"] == "failed"
    assert client.keys("emo:delayed*") == []
    ((_, event),) = client.xrange("emo:results")
    assert event[b"job"] == b"forged"
