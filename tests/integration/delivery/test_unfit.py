"""Workers whose machine is sick, or whose store is away, on a real server: no job dies of it."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.objects.directory import DirectoryStore
from storage.objects.store import open_store
from storage.queue.streams import MAX_SICK_MACHINES
from storage.redis.embedded import EmbeddedRedis
from tests.support.descriptors import no_descriptors
from tests.support.line import MAX_ATTEMPTS, Line, MakeLine, lines
from tests.support.polling import until
from tests.support.s3_server import Exchange, ScriptedServer, http_answer, scripted_server
from tests.support.stream_workers import result
from worker.fitness import breaker


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open breaker is tried a hundred times a second; a closed one finds nothing by itself."""
    monkeypatch.setattr(breaker, "_OPEN_SECONDS", 0.01)


@pytest.fixture
def line(redis_server: EmbeddedRedis, client: Any, tmp_path: Path) -> Iterator[MakeLine]:
    """Make workers on the emptied server."""
    with lines(redis_server.url, tmp_path) as make:
        yield make


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A store with one object."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.wav").write_bytes(b"RIFF")
    return tmp_path / "store"


def enqueue(client: Any, count: int, key: str = "a.wav") -> None:
    """So many jobs."""
    for number in range(count):
        client.xadd("emo:jobs", {"key": key, "job": f"j{number}"})


def ends(client: Any) -> Counter[str]:
    """How many jobs ended how, by events."""
    return Counter(event[b"status"].decode() for _, event in client.xrange("emo:results"))


def opened(line: Line) -> bool:
    """Whether it takes nothing."""
    return line.breaker.open


def holders(client: Any) -> list[bytes]:
    """Who holds jobs, by the server's book."""
    return [each["name"] for each in client.xpending("emo:jobs", "workers")["consumers"]]


def has_none(client: Any, owner: str) -> bool:
    """Whether that worker holds no job any more."""
    return owner.encode() not in holders(client)


def tries(client: Any, count: int) -> set[str]:
    """The numbers of tries that the jobs took."""
    return {result(client, f"j{number}")["attempts"] for number in range(count)}


def test_a_worker_that_lost_its_store_takes_no_job_with_it(
    line: MakeLine, client: Any, directory: Path, tmp_path: Path
) -> None:
    """Of two workers one has no store: the other does all jobs, each in one try."""
    sick = line("sick", DirectoryStore(tmp_path / "gone"))
    well = line("well", DirectoryStore(directory))
    enqueue(client, 100)
    sick.start(look=False)  # it learns by its jobs
    until(lambda: sick.breaker.open)
    well.start()
    until(lambda: ends(client)["done"] == 100)
    assert ends(client) == {"done": 100}
    assert tries(client, 100) == {"1"}
    assert sick.sample("jobs_excused_total", fault="sick") >= 1
    assert sick.sample("sick") == 1
    assert client.xlen("emo:dead") == 0


def test_a_worker_alone_waits_for_its_store(line: MakeLine, client: Any, directory: Path) -> None:
    """It vanishes under the worker, and all are done in one try when it is back."""
    alone = line("alone", DirectoryStore(directory))
    alone.start()
    enqueue(client, 1)
    until(lambda: ends(client)["done"] == 1)
    directory.rename(directory.parent / "away")
    enqueue(client, 100)
    until(lambda: alone.breaker.open)
    until(lambda: holders(client) == [b"given-back"])
    (directory.parent / "away").rename(directory)
    until(lambda: ends(client)["done"] == 100)
    assert tries(client, 100) == {"1"}
    assert client.xlen("emo:dead") == 0
    assert alone.sample("sick") == 0


def test_a_worker_without_descriptors_waits_for_some(
    line: MakeLine, client: Any, directory: Path
) -> None:
    """Whatever took them all: its jobs are none the worse for it."""
    alone = line("alone", DirectoryStore(directory))
    alone.start()
    enqueue(client, 1)
    until(lambda: ends(client)["done"] == 1)
    with no_descriptors():
        enqueue(client, 100)
        until(lambda: alone.breaker.open)
    until(lambda: ends(client)["done"] == 100)
    assert tries(client, 100) == {"1"}


class S3:
    """What a scripted server does: serve, or not; `bad.wav` it never serves."""

    def __init__(self) -> None:
        self.away = False
        self.server: ScriptedServer

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        key = exchange.request.split()[1].rpartition("/")[2]
        if self.away or key == "bad.wav":
            exchange.send(http_answer("503 Service Unavailable"))
        elif key == "a.wav":
            exchange.send(http_answer("200 OK", b"RIFF"))
        else:
            exchange.send(http_answer("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"))


@pytest.fixture
def s3() -> Iterator[S3]:
    """An S3 server that is told whether to serve."""
    behaviour = S3()
    with scripted_server(behaviour) as server:
        behaviour.server = server
        yield behaviour


def test_nothing_dies_while_the_store_is_away(line: MakeLine, client: Any, s3: S3) -> None:
    """However often the workers ask, no try is counted, and all is done when it is back."""
    workers = [line(f"w{number}", open_store(s3.server.url("bucket"))) for number in range(5)]
    s3.away = True
    enqueue(client, 100)
    for each in workers:
        each.start()
    for each in workers:  # who finds the store back when it has failed a job, blames the job
        until(partial(opened, each))
    asked = len(s3.server.requests)
    until(lambda: len(s3.server.requests) > asked + 50)
    assert workers[0].sample("store_away") == 1
    s3.away = False
    until(lambda: ends(client)["done"] == 100)
    assert ends(client) == {"done": 100}
    assert tries(client, 100) == {"1"}
    assert client.xlen("emo:dead") == 0


def test_an_object_that_the_store_never_serves_is_given_up(
    line: MakeLine, client: Any, s3: S3
) -> None:
    """The store itself answers, so it is the job's fault: its tries count, and end."""
    alone = line("alone", open_store(s3.server.url("bucket")))
    alone.start()
    enqueue(client, 3, "bad.wav")
    until(lambda: ends(client)["dead"] == 3)
    assert tries(client, 3) == {str(MAX_ATTEMPTS)}
    assert result(client, "j0")["error_code"] == "storage_unavailable"
    assert not alone.breaker.open
    assert alone.sample("jobs_excused_total", fault="away") == 0


def test_a_job_that_meets_sick_machines_only_is_given_up(
    line: MakeLine, client: Any, tmp_path: Path
) -> None:
    """Three may give it back, whichever; at the next ones its tries count."""
    enqueue(client, 1)
    for number in range(MAX_SICK_MACHINES + MAX_ATTEMPTS):
        assert not ends(client)
        sick = line(f"sick-{number}", DirectoryStore(tmp_path / "gone"))
        sick.start(look=False)
        until(partial(opened, sick))
        until(partial(has_none, client, f"sick-{number}"))  # it opens before it settles
        sick.stop()
        if client.zcard("emo:delayed"):
            sick.promote()
    assert ends(client) == {"dead": 1}
    assert result(client, "j0")["attempts"] == str(MAX_ATTEMPTS)
    assert result(client, "j0")["error_code"] == "storage_unavailable"
