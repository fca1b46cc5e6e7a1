"""Results as they come: resumed, and followed through cuts, restarts and foreign entries."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from producer.results import Event
from storage.queue.streams import JobStreams
from storage.redis.bounds import MAX_REPLY_BYTES
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Status
from tests.support.clients import KINDS, open_client
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.stream_workers import FAILED, end, new_streams


def test_results_are_resumed_at_an_event(ours: Any, client: Any, streams: JobStreams) -> None:
    """From the start, and from where another iterator stopped; others' entries are passed over."""
    for number in range(4):
        ours.submit(Job(f"job-{number}", "a.wav"))
    end(streams, most=2)
    client.xadd("emo:results", {"job": "x", "status": "splendid"})
    client.xadd("emo:results", {"hello": "\x00"})
    end(streams, FAILED, most=2)
    every = list(islice(ours.results("0"), 4))
    assert [event.job_id for event in every] == [f"job-{number}" for number in range(4)]
    assert (every[0].status, every[0].label, every[0].score) == (Status.DONE, "happy", 0.9)
    assert (every[3].status, every[3].error_code, every[3].run) == (Status.FAILED, "not_audio", 1)
    assert list(islice(ours.results(every[1].id), 2)) == every[2:]
    with pytest.raises(ValueError, match="is not the id of an event"):
        next(ours.results("yesterday"))


def test_an_event_that_is_too_large_is_passed_over(
    ours: Any, client: Any, streams: JobStreams
) -> None:
    """Neither the events around it are lost, nor does the iterator end; first, last or between."""
    big = {"job": "x", "status": "done", "big": b"x" * (MAX_REPLY_BYTES + 1)}
    client.xadd("emo:results", big)
    ours.submit(Job("one", "a.wav"))
    end(streams)
    client.xadd("emo:results", big)
    ours.submit(Job("two", "a.wav"))
    end(streams)
    assert [event.job_id for event in islice(ours.results("0"), 2)] == ["one", "two"]
    client.xadd("emo:results", big)
    thread, found = in_the_background(ours.results(), 1)
    until(lambda: client.info("clients")["blocked_clients"])
    client.xadd("emo:jobs", {"key": "a.wav", "job": "three"})
    end(streams)
    thread.join(TIMEOUT_SECONDS)
    assert [event.job_id for event in found] == ["three"]


def in_the_background(events: Iterator[Event], count: int) -> tuple[threading.Thread, list[Event]]:
    """Collect so many events on a thread."""
    found: list[Event] = []
    thread = threading.Thread(target=lambda: found.extend(islice(events, count)), daemon=True)
    thread.start()
    return thread, found


@contextmanager
def cut(client: Any) -> Iterator[None]:
    """All connections but this one are cut."""
    until(lambda: client.info("clients")["blocked_clients"])
    client.client_kill_filter(_type="normal", skipme=True)
    yield


def test_results_begin_now_and_survive_a_cut(ours: Any, client: Any, streams: JobStreams) -> None:
    """Given connections that are cut while it waits, no event is lost or told twice."""
    ours.submit(Job("before", "a.wav"))
    end(streams)
    thread, found = in_the_background(ours.results(), 2)
    until(lambda: client.info("clients")["blocked_clients"])
    for job in ("one", "two"):
        with cut(client):
            client.xadd("emo:jobs", {"key": "a.wav", "job": job})
            end(streams)
    thread.join(TIMEOUT_SECONDS)
    assert [event.job_id for event in found] == ["one", "two"]


def test_results_survive_a_stream_that_is_begun_anew(
    ours: Any, client: Any, streams: JobStreams
) -> None:
    """Given a stream whose ids are used up, or that is gone, the events after it come as well."""
    sealed = "18446744073709551615-18446744073709551615"
    last = {"job": "last", "status": "done", "run": "1", "finished_at_ms": "1"}
    client.xadd("emo:results", last, id=sealed)
    thread, found = in_the_background(ours.results("0"), 2)
    until(lambda: found)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "next"})
    end(streams)
    thread.join(TIMEOUT_SECONDS)
    assert [event.job_id for event in found] == ["last", "next"]


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that a test may kill."""
    with EmbeddedRedis(tmp_path) as server:
        yield server


@pytest.fixture(params=KINDS)
def its_client(request: pytest.FixtureRequest, mortal: EmbeddedRedis) -> Iterator[Any]:
    """A client of either kind, of that server."""
    yield from open_client(request.param, mortal.url)


def test_results_survive_a_restart(mortal: EmbeddedRedis, its_client: Any, keys: Keys) -> None:
    """Given a server that is down for a while, the iterator goes on when it is back."""
    thread, found = in_the_background(its_client.results("0"), 2)
    for job in ("one", "two"):
        with connect(mortal.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
            streams = new_streams(JobStreams, client, keys, "one", 30)
            client.xadd("emo:jobs", {"key": "a.wav", "job": job})
            end(streams)
        if job == "one":
            until(lambda: found)
            mortal.kill()
            mortal.start()
    thread.join(TIMEOUT_SECONDS)
    assert [event.job_id for event in found] == ["one", "two"]
