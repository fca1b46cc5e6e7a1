"""Who holds an entry: fence, heartbeat, takeover, give-back, against a real server."""

import time
from typing import Any

from storage.queue.entries import Outcome, Verdict
from storage.queue.streams import JobStreams
from storage.queue.takeover import MAX_DELIVERIES
from storage.wire.messages import Keys
from tests.support.polling import until
from tests.support.stream_workers import (
    DONE,
    Worker,
    begin_one,
    lapse,
    new_streams,
    reclaim_one,
    result,
)


class Clock:
    """The real time, put forward or back."""

    ahead_seconds = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return time.monotonic() + self.ahead_seconds


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
    assert one.heartbeat([(stale.delivery, "x")]) == [stale.delivery]
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
    assert one.heartbeat([(begun.delivery, begun.job_id)]) == []
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
    assert client.xpending("emo:jobs", "workers")["consumers"][0]["name"] == b"given-back"
    one.leave()  # it holds nothing any more
    assert b"one" not in [c["name"] for c in client.xinfo_consumers("emo:jobs", "workers")]
    taken = reclaim_one(two)
    assert taken.count == 1
    (again,) = two.begin([taken])
    assert again.crashes == 0
    assert two.finish([(again, DONE)]) == [Outcome.SETTLED]


def test_giving_back_revives_no_older_holding(client: Any, worker: Worker) -> None:
    """A worker that took over its own lapsed entry: its first task is fenced for good."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one = worker("one")
    older = begin_one(one)
    newer = reclaim_one(one)
    assert (newer.count, one.begin([newer])[0].verdict) == (2, Verdict.RUN)
    assert one.give_back([(newer, "x")]) == 1
    assert one.heartbeat([(older.delivery, "x")]) == [older.delivery]
    assert one.finish([(older, DONE)]) == [Outcome.FENCED]
    assert one.retry(older, delay_seconds=0, code="internal", message="") is Outcome.FENCED
    assert one.begin([older.delivery])[0].verdict is Verdict.FENCED


def test_what_was_begun_unnoticed_is_given_back_disarmed(client: Any, worker: Worker) -> None:
    """The reply of a begin was lost, then the worker drained: the job is queued again."""
    client.xadd("emo:jobs:bulk", {"key": "a.wav"})
    one = worker("one")
    begun = begin_one(one)
    assert one.give_back([(begun.delivery, "")]) == 1
    known = result(client, begun.job_id)
    assert known["status"] == "queued"
    assert "_armed" not in known


def test_an_entry_that_was_not_begun_is_not_delivered(client: Any, worker: Worker) -> None:
    """Workers that die holding it do not count; the owner alone fences them."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    holders = [worker(f"holder-{number}") for number in range(MAX_DELIVERIES + 2)]
    (first,) = holders[0].read(1)
    for holder in holders[1:]:
        last = reclaim_one(holder)
    assert last.count == first.count == 1
    assert holders[0].begin([first])[0].verdict is Verdict.FENCED
    assert holders[0].heartbeat([(first, "")]) == [first]
    (begun,) = holders[-1].begin([last])
    assert (begun.verdict, begun.crashes, begun.deliveries) == (Verdict.RUN, 0, 1)


def test_an_entry_whose_read_was_not_answered_is_found_again(client: Any, worker: Worker) -> None:
    """The reply was lost: the server has it with a worker that does not know."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    one = worker("one")
    one.read(1)
    assert one.begin([reclaim_one(one)])[0].verdict is Verdict.RUN


def test_a_begin_that_is_repeated_is_one_delivery(client: Any, worker: Worker) -> None:
    """Its reply was lost, so it is asked for again."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    one = worker("one")
    begun = begin_one(one)
    (again,) = one.begin([begun.delivery])
    assert (again.verdict, again.deliveries) == (Verdict.RUN, 1)


def test_a_reclaim_that_comes_out_of_an_outage_robs_nobody(client: Any, keys: Keys) -> None:
    """It was sent long ago by the server's clock: all leases look run out, and none is taken."""
    clock = Clock()
    one = new_streams(JobStreams, client, keys, "one", 3600)
    two = new_streams(JobStreams, client, keys, "two", 3600, clock=clock)
    client.xadd("emo:jobs", {"key": "held.wav"})
    client.xadd("emo:jobs", {"key": "given.wav"})
    held, given = one.read(2)
    one.give_back([(given, "")])
    lapse(client, keys, "one")
    two.reclaim(0)
    clock.ahead_seconds = -1800
    found = two.reclaim(10)
    assert found.held_up
    assert [taken.entry for taken in found.deliveries] == [given.entry]
    again = two.reclaim(10)
    assert (again.held_up, [taken.entry for taken in again.deliveries]) == (False, [held.entry])


def test_whom_it_was_told_to_spare_holds_no_reclaim_up(client: Any, worker: Worker) -> None:
    """Who asks for what was given back alone knows already that leases cannot be trusted."""
    assert not worker().reclaim(10, given_back_only=True).held_up


def test_looking_at_a_lease_does_not_renew_it(client: Any, worker: Worker) -> None:
    """What is left to run out runs out, though its worker asks whether it still has it."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    one = worker("one", 60)
    held = [(begin_one(one).delivery, "x")]

    def idle() -> list[Any]:
        return list(client.xpending_range("emo:jobs", "workers", "-", "+", 1, idle=50))

    until(idle)
    assert one.heartbeat(held, renew=False) == []
    assert idle()


def test_giving_a_repeated_entry_back_disarms_no_other(client: Any, worker: Worker) -> None:
    """The job runs on under the entry that it was begun by."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one = worker("one")
    first, repeated = one.read(2)
    one.begin([first])
    assert one.give_back([(repeated, "")]) == 1
    known = result(client, "x")
    assert (known["status"], known["_armed"]) == ("running", "one:1:company")


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
    """Nothing that another worker may still hold, however long it seems idle."""
    client.xadd("emo:jobs", {"key": "a.wav"})
    client.xadd("emo:jobs", {"key": "b.wav"})
    one, two = worker("one"), worker("two")
    client.xadd("emo:jobs", {"key": "c.wav"})
    unread, *others = one.read(3)
    kept, given = one.begin(others)
    one.give_back([(given.delivery, given.job_id)])
    day = {"idle": 2 * 86_400_000, "retrycount": 1, "justid": True}
    client.xclaim("emo:jobs", "workers", "one", 0, [unread.entry, kept.delivery.entry], **day)
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
