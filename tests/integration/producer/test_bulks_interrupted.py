"""Bulks whose controls die or share, that are paused or cancelled, whose store is away."""

from pathlib import Path
from typing import Any

import pytest

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


def _facts(bulk: Bulk) -> tuple[BulkStatus, int, str]:
    return bulk.status, bulk.keys, bulk.error
