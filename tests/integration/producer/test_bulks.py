"""Bulks: every key once, in turn, within the lanes' limit; on a real Redis."""

from pathlib import Path
from typing import Any

from producer.client import BatchStatus
from storage.queue.bulks import BulkStatus
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane, Status
from tests.support.control import Control, files, sent
from tests.support.stream_workers import DONE, FAILED, end


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
