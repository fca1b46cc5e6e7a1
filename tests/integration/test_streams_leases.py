"""Who holds an entry: fence, heartbeat, takeover, give-back, against a real server."""

from typing import Any

from storage.streams import MAX_DELIVERIES, Outcome
from tests.polling import until
from tests.stream_workers import DONE, Worker, begin_one, reclaim_one, result


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
    found = until(lambda: [found for found in [two.reclaim(10)] if found.dead])
    assert found[0].deliveries == []
    assert result(client, "x")["status"] == "dead"
    ((_, letter),) = client.xrange("emo:dead")
    assert letter[b"key"] == b"bad.wav"
    assert letter[b"_reason"] == b"crash_loop"
    assert letter[b"_owner"] == b"one"
    assert client.xlen("emo:jobs") == 0


def test_an_entry_whose_payload_is_gone_is_cleared(client: Any, worker: Worker) -> None:
    """A pending entry that somebody deleted does not come back for ever."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"})
    one, two = worker("one"), worker("two")
    one.read(1)
    client.xdel("emo:jobs", entry)
    found = until(lambda: [found for found in [two.reclaim(10)] if found.gone])
    assert found[0].deliveries == []
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
    until(lambda: two.reclaim(10).gone)
    failed = result(client, entry.decode())
    assert (failed["status"], failed["error_code"]) == ("failed", "internal")
    assert client.xlen("emo:results") == 1
