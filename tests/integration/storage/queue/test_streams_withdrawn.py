"""Evidence of a crash that a living worker takes back."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.entries import Begun, Outcome, Verdict
from storage.queue.streams import JobStreams
from tests.integration.storage.queue.test_streams_suspects import (
    add,
    beat,
    begin,
    evidence,
)
from tests.support.stream_workers import DONE, Worker, begin_one, reclaim_one, result


def _look(streams: JobStreams, stale: Begun) -> None:
    assert streams.heartbeat([(stale.delivery, stale.job_id)], renew=False) == [stale.delivery]


def _finish(streams: JobStreams, stale: Begun) -> None:
    assert streams.finish([(stale, DONE)]) == [Outcome.FENCED]


def _retry(streams: JobStreams, stale: Begun) -> None:
    outcome = streams.retry(stale, delay_seconds=0, code="internal", message="")
    assert outcome is Outcome.FENCED


def _give_back(streams: JobStreams, stale: Begun) -> None:
    assert streams.give_back([(stale.delivery, stale.job_id)]) == 0


def _begin_again(streams: JobStreams, stale: Begun) -> None:
    assert begin(streams, stale.delivery).verdict is Verdict.FENCED


@pytest.mark.parametrize("fenced", [beat, _look, _finish, _retry, _give_back, _begin_again])
def test_a_worker_that_lives_withdraws_its_crash(
    client: Any, worker: Worker, fenced: Callable[[JobStreams, Begun], None]
) -> None:
    """Whichever call tells it that it lost its entry; the evidence of the dead stays."""
    entry = add(client)
    dead, lapsed, heir = worker("dead"), worker("lapsed"), worker("heir")
    begin_one(dead)
    stale = begin(lapsed, reclaim_one(lapsed))
    taken = reclaim_one(heir)
    assert len(evidence(client, "x")) == 2
    fenced(lapsed, stale)
    assert evidence(client, "x") == {f"_crash:{entry}:dead:1": "company"}
    assert begin(heir, taken).verdict is Verdict.RUN


def test_a_withdrawal_that_comes_after_the_end_changes_nothing(client: Any, worker: Worker) -> None:
    """The job is done, or its hash is gone altogether."""
    add(client)
    one, two = worker("one"), worker("two")
    stale = begin_one(one)
    two.finish([(begin(two, reclaim_one(two)), DONE)])
    ended = result(client, "x")
    beat(one, stale)
    assert result(client, "x") == ended
    client.delete("emo:result:x")
    beat(one, stale)
    assert not client.exists("emo:result:x")
