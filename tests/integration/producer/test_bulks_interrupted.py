"""Bulks whose controls die or share, that are paused or cancelled, whose store is away."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from rq.timeouts import JobTimeoutException

from storage.queue.bulks import Bulk, BulkStatus
from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.control import Control, files, sent
from tests.support.stream_workers import FAILED, end


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


def test_a_page_that_was_cut_off_is_sent_once_also_in_smaller_ones(
    control: Control,
    client: Any,
    streams: JobStreams,
    redis_server: EmbeddedRedis,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lane has less room when it is repeated; all that it had sent has failed meanwhile."""
    names = files(store / "a", 250)
    control.submit("b", "a/")

    def cut_off(*_: Any, **fields: Any) -> bool:
        if "cursor" in fields:
            raise ConnectionResetError("killed")
        return real(*_, **fields)

    real = control.bulks.change
    monkeypatch.setattr(control.bulks, "change", cut_off)
    with pytest.raises(ConnectionResetError):
        control.pages.send("b", 0)
    end(streams, FAILED, 100)
    for room in (30, 45):
        after = Control(redis_server.url, store, bulk_lane_jobs=room)
        after.round()
        after.close()
    assert client.xlen("emo:jobs:bulk") == 0
    after = Control(redis_server.url, store)
    after.run()
    assert sent(client) == [f"a/{name}" for name in names[100:]]
    assert (after.bulk("b").keys, after.status("b")) == (250, BulkStatus.DONE)
    after.close()


def test_a_disk_that_takes_no_manifest_is_waited_for(
    control: Control, client: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why, and goes on by itself."""
    (store / "list.csv").write_text("key\na.wav\n")
    source = {"manifest": "list.csv", "store": "audio", "format": "csv"}
    control.bulks.create("b", Lane.BULK, source, {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    control.round()
    bulk = control.bulk("b")
    assert bulk.status is BulkStatus.RUNNING
    assert bulk.error.startswith("waits: where control runs: ")
    assert str(tmp_path / "full") in bulk.error
    assert control.failures
    (tmp_path / "full").mkdir()
    control.pages.send("b", 0)
    assert _facts(control.bulk("b")) == (BulkStatus.DONE, 1, "")
    assert sent(client) == ["a.wav"]


def test_a_page_that_takes_too_long_is_told(
    control: Control, client: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it hangs in; and it is tried again."""
    files(store / "a", 10)
    control.submit("b", "a/")
    real, tries = control.client.submit_many, []

    def hang(*given: Any, **options: Any) -> Any:
        tries.append(control.bulk("b").error)
        if len(tries) == 1:
            raise JobTimeoutException
        return real(*given, **options)

    monkeypatch.setattr(control.client, "submit_many", hang)
    control.run()
    assert tries == ["", "waits: a page of it took longer than 30 s"]
    assert _facts(control.bulk("b")) == (BulkStatus.DONE, 10, "")


def test_a_page_whose_rows_are_long_in_coming_is_a_short_one(
    client: Any, redis_server: EmbeddedRedis, store: Path
) -> None:
    """Each row takes two seconds: so it ends within its time, and each key is sent once."""
    names = files(store / "a", 50)
    ticks = itertools.count(0, 2)
    control = Control(redis_server.url, store, clock=lambda: float(next(ticks)))
    control.submit("b", "a/")
    control.round()
    assert 0 < control.bulk("b").keys < 10
    control.run()
    assert control.status("b") is BulkStatus.DONE
    assert sent(client) == [f"a/{name}" for name in names]
    control.close()


def test_a_manifest_of_empty_lines_is_read_page_by_page(
    client: Any, redis_server: EmbeddedRedis, store: Path
) -> None:
    """They are no rows: nothing counts them."""
    (store / "list.csv").write_bytes(b"key\na.wav\n" + b"\n" * 25_000 + b"b.wav\n")
    control = Control(redis_server.url, store, bulk_page_keys=10)
    source = {"manifest": "list.csv", "store": "audio", "format": "csv"}
    control.bulks.create("b", Lane.BULK, source, {})
    control.round()
    assert control.bulk("b").cursor
    control.run()
    bulk = control.bulk("b")
    assert (bulk.status, bulk.keys, bulk.skipped, bulk.refused) == (BulkStatus.DONE, 2, 0, 0)
    assert bulk.page == 3
    assert sent(client) == ["a.wav", "b.wav"]
    control.close()


def _facts(bulk: Bulk) -> tuple[BulkStatus, int, str]:
    return bulk.status, bulk.keys, bulk.error
