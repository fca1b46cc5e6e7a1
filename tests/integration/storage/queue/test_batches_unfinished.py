"""Batches that are not complete: how many there are, over whatever becomes of them."""

from typing import Any

import pytest

from storage.queue.batches import Batching, Unfinished
from storage.queue.dead import Selection
from storage.queue.entries import Ends
from storage.queue.steps import Driver
from tests.support.batches import WEEK_MS, Side
from tests.support.stream_workers import DEAD


def test_what_is_not_complete_is_counted(side: Side) -> None:
    """From the first job on, or the seal, until the last end; and again when one runs again."""
    assert side.unfinished() == (0, 0, 0)
    for job in ("x", "y"):
        side.submit(job)
    side.submit("z", "c")
    side.seal(1, "later")
    assert side.unfinished() == (2, 1, 3)
    side.seal(2)
    assert side.unfinished() == (1, 2, 3)
    side.end(DEAD)
    assert side.unfinished() == (1, 1, 0)
    (letter, *_) = side.letters.select(Selection(names=frozenset({"x"})))
    side.letters.replay(letter.entry)
    assert side.unfinished() == (1, 2, 1)
    side.end()
    assert side.unfinished() == (1, 1, 0)
    side.submit("y")
    assert side.unfinished() == (1, 2, 1)


@pytest.mark.parametrize("how", ["batch", "job"])
def test_what_is_cancelled_is_counted_until_its_jobs_have_ended(side: Side, how: str) -> None:
    """A mark ends nothing by itself; a batch that nobody sealed stays open."""
    side.seal(1)
    for batch in ("b", "open"):
        side.submit(f"of-{batch}", batch)
        if how == "batch":
            side.cancel(batch)
            assert side.unfinished()[2] >= 1
        else:
            side.cancellations.cancel(f"of-{batch}")
    side.begin()
    assert side.unfinished() == (1, 0, 0)


@pytest.mark.parametrize("kind", ["expired", "deleted", "replaced"])
def test_what_is_gone_is_counted_no_more(side: Side, client: Any, kind: str) -> None:
    """After its time, or by somebody's hand; the next change of any batch forgets those."""
    side.submit("x")
    side.seal(2, "sealed")
    index = side.keys.open_batches
    assert 0 < client.pttl("emo:batch:b") <= WEEK_MS
    seconds, _ = client.time()
    assert client.zscore(index, "b") == pytest.approx(seconds * 1000 + WEEK_MS, abs=60_000)
    client.delete("emo:batch:b")
    if kind == "expired":  # as it would be in a week
        client.zadd(index, {"b": seconds * 1000 - 1})
    elif kind == "replaced":
        client.set("emo:batch:b", "somebody's")
    assert side.unfinished() == (0, 1, 0)
    side.submit("y", "c")
    assert side.unfinished() == (1, 1, 1)
    assert (client.zscore(index, "b") is None) == (kind == "expired")


def test_a_batch_with_jobs_that_run_is_counted_for_as_long_as_they_take(
    side: Side, client: Any
) -> None:
    """It does not expire, and the index knows that."""
    side.submit("x")
    side.seal(1)
    assert client.pttl("emo:batch:b") == -1
    assert client.zscore(side.keys.open_batches, "b") == float("inf")


def test_what_stands_in_the_place_of_the_index_stops_nothing(side: Side, client: Any) -> None:
    """It is deleted by the next change, and counts as nothing until then."""
    client.set(side.keys.open_batches, "somebody's")
    assert side.unfinished() == (0, 0, 0)
    side.submit("x")
    assert side.unfinished() == (1, 0, 1)


def test_what_is_no_id_is_no_batch(side: Side, client: Any) -> None:
    """Who may write to the index can put anything in it: all else is counted nevertheless."""
    side.submit("x")
    client.zadd(side.keys.open_batches, {b"\xff": float("inf"), b"": 9e12, b"a\0b": 9e12})
    assert side.unfinished() == (1, 0, 1)


def test_only_so_many_batches_are_looked_at(side: Side) -> None:
    """And it is said how many are not."""
    for batch in ("a", "b", "c"):
        side.submit(f"of-{batch}", batch)
    looked = Batching(side.keys, Ends()).unfinished(most=2)
    assert Driver(side.client).run(looked) == Unfinished(2, 0, 2, unread=1)


def test_many_batches_are_counted_some_at_a_time(side: Side, client: Any) -> None:
    """Each once."""
    with client.pipeline(transaction=False) as several:
        for number in range(1234):
            several.hset(f"emo:batch:{number}", mapping={"status": "open", "jobs": 3, "done": 1})
            several.zadd(side.keys.open_batches, {str(number): 9e12})
        several.execute()
    assert side.unfinished() == (1234, 0, 2468)
