"""Entries whose consumer somebody deleted."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from storage.queue.entries import Verdict
from storage.queue.reader import CHUNK, MAX_ENTRY_BYTES
from storage.redis.bounds import MAX_REPLY_BYTES, ReplyTooLarge
from storage.wire.messages import Lane
from tests.integration.storage.queue.test_oversized import OVERSIZED, add_of
from tests.support.stream_workers import DONE, Worker, begin_one, result


@pytest.mark.parametrize("stream", ["emo:jobs", "emo:jobs:high", "emo:jobs:bulk"])
def test_they_are_found_and_run(client: Any, worker: Worker, stream: str) -> None:
    """Begun or not; those that were never read, or are held, are left alone."""
    one, two = worker("one", 60), worker("two", 60)
    for job in ("begun", "read"):
        client.xadd(stream, {"key": "a.wav", "job": job})
    begin_one(one)
    one.read(1)
    client.xadd(stream, {"key": "a.wav", "job": "held"})
    two.begin(two.read(1))
    client.xadd(stream, {"key": "a.wav", "job": "unread"})
    assert client.xgroup_delconsumer(stream, "workers", "one") == 2
    assert two.stranded.adopt() == 2
    assert two.stranded.adopt() == 0
    taken = {each.job_id: each for each in two.begin(two.reclaim(10).deliveries)}
    assert {job: (each.verdict, each.crashes) for job, each in taken.items()} == {
        "begun": (Verdict.RUN, 1),
        "read": (Verdict.RUN, 0),
    }
    two.finish([(each, DONE) for each in taken.values()])
    assert result(client, "begun")["status"] == result(client, "read")["status"] == "done"
    assert client.xlen(stream) == 2


def test_a_worker_that_lives_did_not_crash(client: Any, worker: Worker) -> None:
    """Its next heartbeat withdraws the evidence, and it drops the job."""
    one, two = worker("one", 60), worker("two", 60)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    begun = begin_one(one)
    client.xgroup_delconsumer("emo:jobs", "workers", "one")
    assert two.stranded.adopt() == 1
    assert one.heartbeat([(begun.delivery, "x")]) == [begun.delivery]
    (again,) = two.begin(two.reclaim(10).deliveries)
    assert (again.verdict, again.crashes) == (Verdict.RUN, 0)


def test_all_pages_are_looked_at(client: Any, worker: Worker) -> None:
    """However many entries others hold in front of them."""
    one, two = worker("one", 60), worker("two", 60)
    for number in range(3 * CHUNK):
        client.xadd("emo:jobs", {"key": "a.wav", "job": f"job-{number}"})
    one.read(2 * CHUNK)
    lost = two.read(CHUNK)
    client.xgroup_delconsumer("emo:jobs", "workers", "two")
    assert one.stranded.adopt() == len(lost)


@pytest.mark.parametrize("add", OVERSIZED.values(), ids=OVERSIZED)
def test_one_that_is_oversized_is_found_with_those_behind_it(
    client: Any, worker: Worker, add: Callable[[Any, str], str]
) -> None:
    """It is named by the beginning of its reply, not read, and ends; the others run."""
    one, two = worker("one", 60), worker("two", 60)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "before"})
    bad = add(client, "emo:jobs")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "behind", "note": "9-9"})
    with suppress(ReplyTooLarge):
        one.read(100)
    client.xgroup_delconsumer("emo:jobs", "workers", "one")
    assert two.stranded.adopt() == 3
    assert two.stranded.adopt() == 0
    found = two.reclaim(10)
    assert found.refused == 1
    assert result(client, bad)["error_code"] == "invalid_job"
    assert {each.job_id for each in two.begin(found.deliveries)} == {"before", "behind"}


def test_large_entries_that_fill_no_reply_together_are_found(client: Any, worker: Worker) -> None:
    """Each may be read, and a page of them is more than a reply may hold."""
    one, two = worker("one", 60), worker("two", 60)
    add, count = add_of(MAX_ENTRY_BYTES - 64), MAX_REPLY_BYTES // MAX_ENTRY_BYTES + 1
    for _ in range(count):
        add(client, "emo:jobs")
    for _ in range(count):
        one.read(1)
    client.xgroup_delconsumer("emo:jobs", "workers", "one")
    assert two.stranded.adopt() == count


def test_without_a_group_nothing_is_stranded(client: Any, worker: Worker) -> None:
    """It is made again by whoever reads next."""
    one = worker("one", 60)
    client.xadd("emo:jobs", {"key": "a.wav"})
    client.delete(*one.keys.lanes)
    client.xadd(one.keys.lane(Lane.NORMAL), {"key": "a.wav"})
    assert one.stranded.adopt() == 0
