"""Uploads that are given up: by their page, or since nobody goes on with them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from producer.client import Client, Contract
from producer.console import app, uploads
from producer.console.backend import Backend
from producer.console.settings import ConsoleSettings
from storage.objects.directory_transfers import DirectoryTransfers
from storage.queue.files import BatchFiles
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.integration.producer.console.conftest import Open
from tests.integration.producer.console.test_uploads import BATCH, JOB, begin, put, send

AN_HOUR = 3600.0
PATH = f"/api/uploads/{BATCH}/{JOB}"
OTHER = "e" * 32


@pytest.fixture
def backend(redis_server: EmbeddedRedis, client: Any, store: Path) -> Iterator[Backend]:
    """That of a console which nobody asks anything."""
    settings = ConsoleSettings(redis_url=redis_server.url, store=store.as_uri(), _env_file=None)
    with Client(redis_server.url, Contract.of(settings)) as queue:
        yield Backend.of(settings, queue)


def leave_alone(client: Any, keys: Keys, job: str = JOB) -> None:
    """Have the last sign of an upload be old."""
    client.hset(keys.uploads, f"{BATCH} {job}", "1000")


@pytest.mark.parametrize("asked", ["begin", "finish"])
def test_a_page_that_gets_no_further_is_a_sign_all_the_same(
    asked: str, console: Open, client: Any, keys: Keys
) -> None:
    """Given full lanes: all of the file is there, and its page asks for hours."""
    send(console(), OTHER)
    page = console(max_backlog=1)
    begin(page, size=3)
    put(page, 0, b"abc")
    leave_alone(client, keys)
    if asked == "begin":
        assert begin(page, size=3).json()["parts"] == 0
    else:
        assert page.post(f"{PATH}/finish").json()["error"] == "backlog_full"
    assert BatchFiles(client, keys).abandoned(AN_HOUR) == []


def test_pages_are_heard_before_their_uploads_are_given_up(
    console: Open, backend: Backend, client: Any, keys: Keys
) -> None:
    """While the console was away none could go on: at the first look nothing is given up."""
    page = console()
    for job in (JOB, OTHER):
        begin(page, job)
        leave_alone(client, keys, job)
    old = uploads.sweep(backend, frozenset())
    assert old == {(BATCH, JOB), (BATCH, OTHER)}
    begin(page)
    assert uploads.sweep(backend, old) == {(BATCH, OTHER)}
    states = {
        file["job"]: file["state"] for file in page.get(f"/api/batches/{BATCH}").json()["files"]
    }
    assert states == {JOB: "uploading", OTHER: "abandoned"}


def test_pages_are_heard_after_an_outage_of_redis(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was old before it may have gone on since, for as long as there was somebody to ask."""
    seen: list[uploads.Uploads] = []
    old = {(BATCH, JOB)}
    looks: Iterator[uploads.Uploads | BaseException]
    looks = iter([old, RedisError("away"), old, KeyboardInterrupt()])

    def look(_: Backend, before: uploads.Uploads) -> uploads.Uploads:
        seen.append(before)
        found = next(looks)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(uploads, "sweep", look)
    writes = backend.settings.model_copy(update={"console_write": True})
    monkeypatch.setattr(Backend, "settings", writes)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(app._sweep(backend))
    assert seen == [set(), old, set(), old]


def status(client: Any, keys: Keys) -> bytes | None:
    """That of the job's hash."""
    found: bytes | None = client.hget(keys.result(JOB), "status")
    return found


@pytest.mark.parametrize("place", [DirectoryTransfers, uploads], ids=["object", "job"])
@pytest.mark.parametrize("comes", ["before", "behind"])
def test_what_is_cancelled_while_it_ends_does_not_run(
    place: Any, comes: str, console: Open, client: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its object or its job is about to be made, or has just been."""
    page, cancelling = console(), console()
    begin(page, size=3)
    put(page, 0, b"abc")
    name = "finish" if place is DirectoryTransfers else "submit"
    act = getattr(place, name)

    def cancelled(*given: Any) -> None:
        if comes == "behind":
            act(*given)
        assert cancelling.delete(PATH).json() == {"state": "cancelled"}
        if comes == "before":
            act(*given)

    monkeypatch.setattr(place, name, cancelled)
    answer = page.post(f"{PATH}/finish")
    assert (answer.status_code, answer.json()["message"]) == (409, "the upload is cancelled")
    assert page.get(PATH).json()["state"] == "cancelled"
    assert status(client, keys) in (None, b"cancelled")
    assert client.xlen(keys.lanes[1]) == 0


def test_what_has_just_been_sent_is_cancelled_with_its_job(
    console: Open, client: Any, keys: Keys
) -> None:
    """The page heard no more of its end; it is a job by now, and can be tried again."""
    page = console()
    send(page)
    assert page.delete(PATH).json() == {"state": "cancelled"}
    assert status(client, keys) == b"cancelled"
    assert page.post(f"/api/jobs/{JOB}/retry?batch={BATCH}").json()["status"] == "queued"


def test_a_part_of_what_was_cancelled_meanwhile_is_not_said_to_be_lost(
    console: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its page would begin it anew."""
    page, cancelling = console(), console()
    begin(page, size=3)
    append = DirectoryTransfers.append

    def cancelled(*given: Any) -> None:
        cancelling.delete(PATH)
        append(*given)

    monkeypatch.setattr(DirectoryTransfers, "append", cancelled)
    answer = put(page, 0, b"abc")
    assert (answer.status_code, answer.json()["message"]) == (409, "the upload is cancelled")


def test_what_nobody_knows_any_more_is_dropped_by_its_page(
    console: Open, client: Any, keys: Keys
) -> None:
    """Its result has expired, and it is sent again under another id."""
    page = console()
    send(page)
    client.delete(keys.lanes[1], keys.result(JOB))
    page.delete(PATH)
    assert page.get(PATH).json()["state"] == "cancelled"


def test_what_was_left_alone_is_dropped_by_its_page(
    console: Open, backend: Backend, client: Any, keys: Keys
) -> None:
    """Which has begun it anew, under another id: nobody is to be asked for the file again."""
    page = console()
    begin(page)
    leave_alone(client, keys)
    uploads.sweep(backend, uploads.sweep(backend, frozenset()))
    assert begin(page).json()["state"] == "abandoned"
    page.delete(PATH)
    assert begin(page).json()["state"] == "cancelled"
