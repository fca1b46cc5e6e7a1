"""Bulks: every key once, in turn, within the lanes' limit, whoever dies; on a real Redis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import BatchStatus
from storage.queue.bulks import Bulk, BulkStatus
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane, Status
from tests.support.control import Control, files
from tests.support.stream_workers import DONE, new_streams

FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The audio store."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def control(client: Any, redis_server: EmbeddedRedis, store: Path) -> Iterator[Control]:
    """Control on an empty server, with pages of a hundred keys."""
    made = Control(redis_server.url, store)
    yield made
    made.close()


@pytest.fixture
def streams(client: Any, keys: Keys) -> JobStreams:
    """A worker's side."""
    return new_streams(JobStreams, client, keys, "one", 30)


def end(streams: JobStreams, ending: Ending, most: int) -> None:
    """End what is next."""
    streams.finish([(begun, ending) for begun in streams.begin(streams.read(most))])


def sent(client: Any, lane: str = "emo:jobs:bulk") -> list[str]:
    """The keys in a lane, in their order."""
    return [fields[b"key"].decode() for _, fields in client.xrange(lane)]


def test_a_bulk_is_all_audio_of_a_prefix_and_a_batch(
    control: Control, client: Any, streams: JobStreams, store: Path
) -> None:
    """Each key once, in order; what is no audio by name is counted; its batch is sealed."""
    names = files(store / "calls", 250)
    (store / "calls" / "notes.txt").touch()
    files(store / "other", 3)
    control.submit("monday", "calls/", want="scores,timeline")
    control.run()
    assert sent(client) == [f"calls/{name}" for name in names]
    _, fields = client.xrange("emo:jobs:bulk", count=1)[0]
    assert (fields[b"batch"], fields[b"want"]) == (b"monday", b"scores,timeline")
    bulk = control.bulk("monday")
    assert (bulk.status, bulk.keys, bulk.skipped, bulk.page) == (BulkStatus.DONE, 250, 1, 3)
    state = control.client.batch("monday").state()
    assert state is not None
    assert (state.status, state.total, state.jobs) == (BatchStatus.SEALED, 250, 250)
    while client.xlen("emo:jobs:bulk"):
        end(streams, DONE, 100)
    (*_, state) = control.client.batch("monday").wait(timeout_seconds=60)
    assert state.complete


def test_a_bulk_of_nothing_is_complete_at_once(control: Control) -> None:
    """So that whoever waits for its batch does not wait for ever."""
    control.submit("empty", "nothing/")
    control.run()
    assert control.status("empty") is BulkStatus.DONE
    (state,) = control.client.batch("empty").wait(timeout_seconds=60)
    assert (state.total, state.complete) == (0, True)


def test_bulks_take_turns_and_the_small_one_ends_first(
    control: Control, client: Any, streams: JobStreams, store: Path
) -> None:
    """5,000 keys and then 50 at once: page by page in turn, A1 B1 A2, in the lane too."""
    files(store / "large", 5000)
    files(store / "small", 50)
    control.submit("large", "large/")
    control.submit("small", "small/")
    while not (state := control.client.batch("small").state()) or not state.complete:
        control.round()
        end(streams, DONE, 100)
    large = control.client.batch("large").state()
    assert large is not None
    assert not large.complete
    assert large.ends[Status.DONE] <= 300
    assert control.bulk("large").page <= 4
    control.submit("again", "small/")
    before = sent(client)
    control.round()
    new = [key.partition("/")[0] for key in sent(client)[len(before) :]]
    assert new == ["large"] * 100 + ["small"] * 50
    control.run()
    assert control.status("large") is BulkStatus.DONE


def test_a_lane_never_holds_more_than_its_limit(
    control: Control, client: Any, streams: JobStreams, redis_server: EmbeddedRedis, store: Path
) -> None:
    """Bulks wait where a lane is full, whoever filled it; another lane does not wait for it."""
    limited = Control(redis_server.url, store, bulk_lane_jobs=250)
    files(store / "a", 600)
    for number in range(40):
        client.xadd("emo:jobs:bulk", {"key": f"{number}.wav"})
    limited.submit("first", "a/")
    limited.submit("second", "a/0000")
    limited.submit("elsewhere", "a/", lane=Lane.HIGH)
    limited.run()
    assert client.xlen("emo:jobs:bulk") == client.xlen("emo:jobs:high") == 250
    assert limited.bulk("second").keys == 10
    while not limited.status("first").ended or not limited.status("elsewhere").ended:
        end(streams, DONE, 130)
        limited.run()
        assert max(client.xlen("emo:jobs:bulk"), client.xlen("emo:jobs:high")) <= 250
    assert limited.bulk("first").keys == limited.bulk("elsewhere").keys == 600
    limited.close()


def test_a_full_backlog_is_waited_for(
    client: Any, streams: JobStreams, redis_server: EmbeddedRedis, store: Path
) -> None:
    """EMO_MAX_BACKLOG holds for bulks too: what was taken is written down, and nothing is twice."""
    names = files(store / "a", 300)
    control = Control(redis_server.url, store, max_backlog=130)
    control.submit("b", "a/")
    seen: list[str] = []
    for _ in range(30):
        control.round()
        assert client.xlen("emo:jobs:bulk") <= 130
        seen += [key for key in sent(client) if key not in seen]
        end(streams, FAILED, 70)
        if control.status("b").ended:
            break
    assert seen == [f"a/{name}" for name in names]
    assert control.client.batch("b").state().jobs == 300  # type: ignore[union-attr]
    assert client.xlen("emo:results") == 300 - client.xlen("emo:jobs:bulk")
    control.close()


def test_a_page_that_was_cut_off_is_sent_once(
    control: Control,
    client: Any,
    streams: JobStreams,
    redis_server: EmbeddedRedis,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed between its jobs and its progress; and some of its jobs have failed meanwhile.

    Submitting a job that has failed runs it again, so the page has to look.
    """
    names = files(store / "a", 250)
    control.submit("b", "a/")
    control.round()
    real = control.bulks.change

    def cut_off(bulk: str, *given: Any, **fields: Any) -> bool:
        if "cursor" in fields:
            raise ConnectionResetError("killed")
        return real(bulk, *given, **fields)

    monkeypatch.setattr(control.bulks, "change", cut_off)
    with pytest.raises(ConnectionResetError):
        control.pages.send("b", 1)
    assert client.xlen("emo:jobs:bulk") == 200
    end(streams, FAILED, 150)
    after = Control(redis_server.url, store)
    after.run()
    assert after.status("b") is BulkStatus.DONE
    assert sorted(sent(client)) == [f"a/{name}" for name in names[150:]]
    assert (after.bulk("b").keys, client.xlen("emo:results")) == (250, 150)
    after.close()


def test_a_page_of_a_dead_control_is_sent_by_the_next(
    control: Control, client: Any, redis_server: EmbeddedRedis, store: Path
) -> None:
    """It is abandoned once its time is over, and goes on at once.

    The time is turned forward: 40 seconds are what a page may take, and ten more.
    """
    files(store / "a", 150)
    control.submit("b", "a/")
    control.feeder.give_out()
    (entry,) = control.abandon()
    after = Control(redis_server.url, store)
    after.round()
    assert after.bulk("b").page == 0
    client.zadd("rq:wip:emo", {entry: 1})
    client.delete(f"rq:execution:{entry}")  # of which rq forgets the details at that time
    after.run()
    assert after.failures == ["AbandonedJobError: "]
    assert client.keys("rq:job:*") == []
    assert after.status("b") is BulkStatus.DONE
    assert len(set(sent(client))) == len(sent(client)) == 150
    after.close()


def test_two_controls_share_the_work(
    control: Control, client: Any, redis_server: EmbeddedRedis, store: Path
) -> None:
    """A page is given out once, and what both of them run is sent once."""
    files(store / "a", 450)
    control.submit("b", "a/")
    second = Control(redis_server.url, store)
    assert (control.feeder.give_out(), second.feeder.give_out()) == (1, 0)
    control.pages.send("b", 0)
    second.pages.send("b", 0)
    second.work()
    while not control.status("b").ended:
        control.round()
        second.round()
    assert len(set(sent(client))) == len(sent(client)) == 450
    second.close()


def test_pause_resume_and_cancel(control: Control, client: Any, store: Path) -> None:
    """A paused bulk sends nothing but what it had begun; a cancelled one is sealed."""
    files(store / "a", 350)
    control.submit("b", "a/")
    control.round()
    control.feeder.give_out()
    assert control.bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.PAUSED)
    control.run()
    assert (client.xlen("emo:jobs:bulk"), control.status("b")) == (100, BulkStatus.PAUSED)
    assert control.bulks.change("b", [BulkStatus.PAUSED], status=BulkStatus.RUNNING)
    control.round()
    assert client.xlen("emo:jobs:bulk") == 200
    assert control.bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.CANCELLING)
    control.client.batch("b").cancel()
    control.run()
    state = control.client.batch("b").state()
    assert state is not None
    assert (control.status("b"), state.total, client.xlen("emo:jobs:bulk")) == (
        BulkStatus.CANCELLED,
        200,
        200,
    )
    assert not control.bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.PAUSED)


def test_a_cancelled_bulk_waits_for_its_page(control: Control, store: Path) -> None:
    """Or jobs would come to a batch that is sealed, and open it again."""
    files(store / "a", 50)
    control.submit("b", "a/")
    control.feeder.give_out()
    control.bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.CANCELLING)
    control.feeder.give_out()
    assert control.status("b") is BulkStatus.CANCELLING
    control.work()
    control.run()
    assert control.status("b") is BulkStatus.CANCELLED


def test_an_absent_store_is_waited_for(control: Control, store: Path) -> None:
    """It says why, goes on by itself, and nothing is skipped."""
    control.submit("b", "a/")
    away = store.rename(store.with_name("away"))
    control.round()
    bulk = control.bulk("b")
    assert bulk.status is BulkStatus.RUNNING
    assert "cannot be opened as a directory" in bulk.error
    assert control.failures
    away.rename(store)
    files(store / "a", 10)
    control.pages.send("b", 0)
    assert _facts(control.bulk("b")) == (BulkStatus.DONE, 10, "")


def test_a_list_that_cannot_be_read_fails_the_bulk_until_it_is_resumed(
    control: Control, client: Any, store: Path
) -> None:
    """Another try would read the same; and mended, it goes on."""
    control.bulks.create(
        "b", Lane.BULK, {"manifest": "list.csv", "store": "audio", "format": "csv"}, {}
    )
    control.run()
    bulk = control.bulk("b")
    assert bulk.status is BulkStatus.FAILED
    assert "list.csv" in bulk.error
    (store / "list.csv").write_text("key\na.wav\n")
    control.bulks.change("b", [BulkStatus.FAILED], status=BulkStatus.RUNNING, error="")
    control.run()
    assert _facts(control.bulk("b")) == (BulkStatus.DONE, 1, "")
    assert sent(client) == ["a.wav"]


def test_redis_away_in_a_page_is_a_try_that_failed(
    control: Control, client: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rq tries it again at once."""
    files(store / "a", 10)
    control.submit("b", "a/")
    real, tries = control.client.submit_many, []

    def away(*given: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise RedisError("away")
        return real(*given, **options)

    monkeypatch.setattr(control.client, "submit_many", away)
    control.run()
    assert (control.failures, control.status("b")) == (["RedisError: away"], BulkStatus.DONE)
    assert len(sent(client)) == 10


def test_an_ended_bulk_is_forgotten_after_a_week(control: Control, client: Any) -> None:
    """And one that is not, is kept."""
    control.submit("ended", "nothing/")
    control.run()
    control.submit("open", "nothing/")
    assert client.pttl("emo:bulk:open") == -1
    assert 6 * 86_400_000 < client.pttl("emo:bulk:ended") <= 7 * 86_400_000
    client.delete("emo:bulk:ended")
    assert [bulk.id for bulk in control.bulks.all()] == ["open"]
    assert client.zrange("emo:bulks", 0, -1) == [b"open"]


def _facts(bulk: Bulk) -> tuple[BulkStatus, int, str]:
    return bulk.status, bulk.keys, bulk.error
