"""Streams whose ids somebody has used up, or put far ahead."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.entries import Outcome, Verdict
from storage.queue.lanes import Lanes
from storage.queue.reader import CHUNK
from storage.wire.messages import Keys, Lane
from tests.integration.storage.queue.test_oversized import OVERSIZED
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.stream_workers import DONE, Worker, begin_one, result

LAST = "18446744073709551615-18446744073709551615"
FAR = "99999999999999-5"  # in the year 5138

far_ids = pytest.mark.parametrize("far", [LAST, FAR], ids=["sealed", "far"])


def begin_all(streams: Any) -> dict[str, Any]:
    """Read everything and begin it, by job; each is to be run."""
    begun = {each.job_id: each for each in streams.begin(streams.read(1000))}
    assert {each.verdict for each in begun.values()} <= {Verdict.RUN}
    return begun


@far_ids
@pytest.mark.parametrize("lane", list(Lane))
def test_a_lane_is_begun_anew_with_all_that_it_held(
    client: Any, keys: Keys, worker: Worker, lane: Lane, far: str
) -> None:
    """Read or not, with an id or without: each job ends once, under the id that it had."""
    stream, own = keys.lane(lane), "" if lane is Lane.NORMAL else f"{lane}-"
    one = worker("one", 60)
    client.xadd(stream, {"key": "a.wav"}, id="1-1")
    client.xadd(stream, {"key": "b.wav", "job": "mine"})
    client.xadd(stream, {"key": "c.wav", "_job": "forged", "_x": "y"})
    held = {"1-1": "a.wav", "mine": "b.wav"}
    stale = one.begin(one.read(10)[:2])
    client.xadd(stream, {"key": "far.wav"}, id=far)
    rescued = one.healing.heal()
    assert (rescued.entries, rescued.refused, rescued.why) == (4, 0, "")
    assert one.finish([(each, DONE) for each in stale]) == [Outcome.FENCED] * 2
    assert int(client.xadd(stream, {"key": "new.wav", "job": "new"}).split(b"-")[0]) < 9e13
    begun = begin_all(one)
    keyed = {job: each.delivery.fields[b"key"].decode() for job, each in begun.items()}
    assert {own + "1-1" if job == "1-1" else job: key for job, key in held.items()}.items() <= (
        keyed.items()
    )
    assert keyed[own + far] == "far.wav"
    assert keyed["new"] == "new.wav"
    assert sorted(keyed.values()) == ["a.wav", "b.wav", "c.wav", "far.wav", "new.wav"]
    assert one.finish([(each, DONE) for each in begun.values()]) == [Outcome.SETTLED] * 5
    assert client.xlen("emo:results") == 5
    assert client.exists(keys.aside(lane)) == 0
    assert not any(name.startswith("_") for name in result(client, own + far))


def test_a_lane_that_is_a_little_ahead_is_left_alone(client: Any, worker: Worker) -> None:
    """Clocks differ; and a producer may send ids of its own."""
    seconds = int(client.time()[0])
    client.xadd("emo:jobs", {"key": "a.wav"}, id=f"{(seconds + 80_000) * 1000}-1")
    one = worker("one", 60)
    assert one.healing.heal().entries == 0
    assert one.healing.healed() == []


def test_what_is_oversized_there_ends(client: Any, worker: Worker) -> None:
    """It is found by its id, as in a lane, and nobody reads it."""
    one = worker("one", 60)
    bad = [add(client, "emo:jobs") for add in OVERSIZED.values()]
    for number in range(CHUNK):
        client.xadd("emo:jobs", {"key": "a.wav", "job": f"job-{number}"})
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    rescued = one.healing.heal()
    assert rescued.refused == len(bad)
    assert {result(client, entry)["error_code"] for entry in bad} == {"invalid_job"}
    assert len(begin_all(one)) == CHUNK + 1


def test_a_job_that_had_ended_does_not_come_back(client: Any, worker: Worker) -> None:
    """Nor does one whose hash names another entry end twice."""
    one = worker("one", 60)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "ended"})
    assert one.finish([(begin_one(one), DONE)]) == [Outcome.SETTLED]
    client.xadd("emo:jobs", {"key": "a.wav", "job": "ended"})
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    one.healing.heal()
    assert list(begin_all(one)) == [LAST]


def test_another_worker_goes_on_where_one_stopped(client: Any, keys: Keys, worker: Worker) -> None:
    """It died after the lane was put aside, or with entries in hand."""
    one, two = worker("one", 60), worker("two", 60)
    jobs = [f"job-{number}" for number in range(2 * CHUNK)]
    for job in jobs:
        client.xadd("emo:jobs", {"key": "a.wav", "job": job})
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    one.healing._heal(
        keys=[keys.lane(Lane.NORMAL), keys.aside(Lane.NORMAL)], args=["emo", "workers"]
    )
    client.xreadgroup("rescuers", "one", {keys.aside(Lane.NORMAL): ">"}, count=10)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "new"})
    assert two.healing.heal().entries == len(jobs) + 1
    assert set(begin_all(two)) == {*jobs, LAST, "new"}


def no_consumer(client: Any, aside: str) -> None:
    """Somebody deletes it, with what it had in hand."""
    assert client.xgroup_delconsumer(aside, "rescuers", "one") == 10


def no_group(client: Any, aside: str) -> None:
    """Somebody deletes the whole group."""
    assert client.xgroup_destroy(aside, "rescuers") == 1


@pytest.mark.parametrize("delete", [no_consumer, no_group])
def test_what_is_aside_comes_back_though_its_consumer_is_gone(
    client: Any, keys: Keys, worker: Worker, delete: Callable[[Any, str], None]
) -> None:
    """Handed out, and in nobody's pending list: it is handed out again, and no look goes on."""
    one, two = worker("one", 60), worker("two", 60)
    jobs = [f"job-{number}" for number in range(20)]
    for job in jobs:
        client.xadd("emo:jobs", {"key": "a.wav", "job": job})
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    assert one.read(15)  # which the group of the workers still counts
    aside = keys.aside(Lane.NORMAL)
    one.healing._heal(keys=[keys.lane(Lane.NORMAL), aside], args=["emo", "workers"])
    client.xreadgroup("rescuers", "one", {aside: ">"}, count=10)
    delete(client, aside)
    looking = threading.Thread(target=two.healing.heal, daemon=True)
    looking.start()
    looking.join(TIMEOUT_SECONDS)
    assert not looking.is_alive()
    assert set(begin_all(two)) == {*jobs, LAST}
    assert client.exists(aside) == 0


def test_retries_of_other_lanes_do_not_wait_for_a_sealed_one(client: Any, worker: Worker) -> None:
    """Its own are postponed, and come when it is healed."""
    one = worker("one", 60)
    for stream in ("emo:jobs:high", "emo:jobs"):
        client.xadd(stream, {"key": "a.wav", "job": stream})
        one.retry(begin_one(one), delay_seconds=0, code="internal", message="")
    client.xadd("emo:jobs:high", {"key": "a.wav", "job": "last"}, id=LAST)
    promoted = one.promote(postpone_seconds=0)
    assert (promoted.due, promoted.postponed) == (2, 1)
    assert "exhausted" in promoted.why
    one.healing.heal()
    assert one.promote().postponed == 0
    assert set(begin_all(one)) == {"emo:jobs", "emo:jobs:high", "last"}


@pytest.mark.parametrize("stream", ["emo:results", "emo:dead"])
def test_jobs_end_with_their_events_though_it_is_sealed(
    client: Any, worker: Worker, stream: str
) -> None:
    """The stream is put aside, with all that it held, and told of."""
    one = worker("one", 60)
    client.xadd(stream, {"by": "hand"}, id=LAST)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    begun = begin_one(one)
    client.hset("emo:result:x", "_crash:0-1:a:1", "alone")
    client.hset("emo:result:x", "_crash:0-1:b:1", "alone")
    one.give_back([(begun.delivery, "x")])
    found = one.reclaim(10)
    assert found.dead == ["x"]
    assert result(client, "x")["status"] == "dead"
    for ended in ("emo:results", "emo:dead"):
        ((_, fields),) = client.xrange(ended)
        assert b"by" not in fields
    ((_, kept),) = client.xrange(client.keys(f"{stream}:sealed-*")[0])
    assert kept == {b"by": b"hand"}
    (healed,) = one.healing.healed()
    assert healed.stream == stream
    assert healed.what.startswith(f"{stream}:sealed-")


def test_operators_see_what_was_healed(client: Any, keys: Keys, worker: Worker) -> None:
    """For a week, in `lanes`."""
    client.xadd("emo:jobs:bulk", {"key": "a.wav"}, id=LAST)
    worker().healing.heal()
    (healed,) = Lanes(client, keys=keys).look().healed
    assert (healed.stream, healed.what) == ("emo:jobs:bulk", "begun anew")
    assert 0 < client.pttl(keys.healed) <= 7 * 86_400_000


def test_a_lane_that_is_empty_by_then_leaves_nothing_aside(
    client: Any, keys: Keys, worker: Worker
) -> None:
    """The job that sealed it has ended: there is nothing to bring back."""
    one = worker("one", 60)
    client.xadd("emo:jobs", {"key": "a.wav"}, id=LAST)
    one.finish([(begin_one(one), DONE)])
    one.healing.heal()
    assert client.exists(keys.aside(Lane.NORMAL)) == 0
    assert len(one.healing.healed()) == 1
    client.xadd("emo:jobs", {"key": "a.wav", "job": "next"})
    assert list(begin_all(one)) == ["next"]


def fill_up_to(client: Any, stream: str, count: int) -> None:
    """So many entries, the last of them with the last id there is."""
    adding = client.pipeline(transaction=False)
    for number in range(count - 1):
        adding.xadd(stream, {"key": "a.wav"}, id=f"1-{number + 1}")
    adding.xadd(stream, {"key": "last.wav"}, id=LAST)
    adding.execute()


@pytest.mark.parametrize("stream", ["emo:jobs", "emo:jobs:bulk"])
def test_a_page_that_ends_with_the_last_id_is_the_last_page(
    client: Any, worker: Worker, stream: str
) -> None:
    """Nothing comes after that id, and Redis refuses to be asked: whoever pages, begins anew."""
    silent, one = worker("silent", 0.001), worker("one", 0.001)
    fill_up_to(client, stream, CHUNK)
    assert len(silent.read(1000)) == CHUNK
    assert [one.stranded.adopt() for _ in range(3)] == [0, 0, 0]
    taken: set[str] = set()

    def take_another() -> bool:
        taken.update(each.entry for each in one.reclaim(1).deliveries)
        return len(taken) == CHUNK

    until(take_another)
    client.delete(stream)
    one.create_group()
    fill_up_to(client, stream, 500)
    assert len(one.read(1000)) == 500
    assert len(one.recover(lambda lane, entry: False, 1000)) == 500
