"""What a page does where a file does not get through as it should, in a browser.

No worker runs: what was sent stays queued.
"""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import Client, Contract
from producer.console import uploads
from producer.console.backend import Backend
from producer.console.settings import ConsoleSettings
from storage.objects.transfers import PART_BYTES
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.console import ConsoleProcess
from tests.support.polling import TIMEOUT_SECONDS

KEYS = Keys("emo")
BATCH = "monday"
PART = "**/api/uploads/*/*/{}"
Open = Callable[..., Any]


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Any]:
    """A connection to it, emptied."""
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def backend(server: EmbeddedRedis, place: Path) -> Iterator[Backend]:
    """What another console on the same Redis and store would work with."""
    store = (place / "store").as_uri()
    settings = ConsoleSettings(redis_url=server.url, store=store, _env_file=None)
    with Client(server.url, Contract.of(settings)) as queue:
        yield Backend.of(settings, queue)


@pytest.fixture
def page(chromium: Any, console: ConsoleProcess, client: Any) -> Iterator[Open]:
    """Open a page of it that shows the batch, while its server is empty."""
    contexts: list[Any] = []

    def make() -> Any:
        contexts.append(chromium.new_context())
        opened = contexts[-1].new_page()
        opened.set_default_timeout(60_000)
        opened.goto(f"{console.url}/?batch={BATCH}")
        opened.wait_for_selector("body[data-ready]")
        return opened

    yield make
    for context in contexts:
        context.close()


def ask(console: ConsoleProcess, method: str, path: str, told: object = None) -> Any:
    """What the console answers to another page."""
    body = None if told is None else json.dumps(told).encode()
    headers = {"x-emostream": "1"}
    request = urllib.request.Request(console.url + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)


def begin(console: ConsoleProcess, job: str) -> None:
    """Have an upload wait for its file: while one does, a page asks for all of its batch."""
    told = {"batch": BATCH, "job": job, "name": f"{job[0]}.wav", "size": 10}
    ask(console, "POST", "/api/uploads", told)


def hold(page: Any, path: str, act: Callable[[], Any]) -> Any:
    """Do it, and give the first request for that path, which nobody answers until it goes on."""
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        if held:
            route.continue_()
        held.append(route)

    page.route(path, hold_first)
    act()
    while not held:
        page.wait_for_timeout(50)
    return held[0]


def batch_was_shown(page: Any) -> None:
    """Wait until the page has shown its batch, as that is from now on."""
    for _ in range(3):  # the first may have been asked for before, and the last not be shown yet
        with page.expect_response(f"**/api/batches/{BATCH}"):
            pass


def is_drop(answer: Any) -> bool:
    """Whether it answers a page that has done with an upload."""
    return str(answer.request.method) == "DELETE"


def job_of(client: Any) -> str:
    """The one file's that was begun."""
    (job,) = client.hkeys(KEYS.files(BATCH))
    return str(job.decode())


@pytest.mark.parametrize("state", ["abandoned", "lost", "uploading"])
def test_what_is_gone_is_begun_anew(
    state: str, page: Open, backend: Backend, client: Any, place: Path
) -> None:
    """By the page that was asleep, or whose store has lost it; there is one recording of it."""
    opened, file = page(), place / f"{state}.wav"
    file.write_bytes(os.urandom(PART_BYTES + 1))
    part = hold(opened, PART.format(1), lambda: opened.set_input_files("#files", [file]))
    job = job_of(client)
    uploads.forget(backend, BATCH, job, backend.files.of(BATCH, job) or {}, state=state)
    with opened.expect_response(is_drop):
        part.continue_()
    opened.locator(".card[data-state=queued]").wait_for()
    (stored,) = (place / "store").rglob(file.name)
    assert stored.read_bytes() == file.read_bytes()
    for shown in (opened, page()):
        assert shown.locator(".card").count() == 1


def test_what_another_page_has_cancelled_is_cancelled(
    page: Open, console: ConsoleProcess, client: Any, place: Path
) -> None:
    """It is neither refused nor begun anew."""
    opened, file = page(), place / "cancelled.wav"
    file.write_bytes(b"sound")
    part = hold(opened, PART.format(0), lambda: opened.set_input_files("#files", [file]))
    ask(console, "DELETE", f"/api/uploads/{BATCH}/{job_of(client)}")
    part.continue_()
    opened.locator(".card[data-state=cancelled]").wait_for()
    assert client.xlen(KEYS.lanes[1]) == 0


@pytest.mark.parametrize("heard", [True, False])
def test_what_was_removed_stays_away(heard: bool, page: Open, console: ConsoleProcess) -> None:
    """Whether or not the console has heard of it."""
    for job in ("a" * 32, "b" * 32):
        begin(console, job)
    opened = page()
    if not heard:
        opened.route(
            "**/api/uploads/*/*",
            lambda route: route.abort() if route.request.method == "DELETE" else route.continue_(),
        )
    first = opened.locator(".card", has_text="a.wav")
    first.get_by_role("button", name="Remove").click()
    batch_was_shown(opened)
    assert opened.locator(".card h2").all_inner_texts() == ["b.wav"]


def test_what_is_sent_again_is_one_recording(
    page: Open, console: ConsoleProcess, place: Path
) -> None:
    """Also where it was cancelled before all of it was sent."""
    begin(console, "b" * 32)
    opened, file = page(), place / "again.wav"
    file.write_bytes(b"sound")
    hold(opened, PART.format(0), lambda: opened.set_input_files("#files", [file]))
    card = opened.locator(".card", has_text=file.name)
    with opened.expect_response(is_drop):
        card.get_by_role("button", name="Cancel").click()
    card.get_by_role("button", name="Try again").click()
    opened.locator(".card[data-state=queued]").wait_for()
    batch_was_shown(opened)
    for shown in (opened, page()):
        assert sorted(shown.locator(".card h2").all_inner_texts()) == [file.name, "b.wav"]


@pytest.mark.parametrize("became", ["changed", "removed"])
def test_what_cannot_be_read_any_more_is_said_to_be(became: str, page: Open, place: Path) -> None:
    """It is no outage of the console, and leaves its place to those that wait."""
    files = [place / f"{became}-{number}.wav" for number in range(3)]
    opened, fine = page(), place / f"{became}-fine.wav"
    for file in (*files, fine):
        file.write_bytes(b"sound")

    def spoil(route: Any) -> None:
        for file in files:
            file.unlink(missing_ok=True)
            if became == "changed":
                file.write_bytes(b"other")
                os.utime(file, (1e9, 1e9))
        route.continue_()

    opened.route("**/api/uploads", spoil)
    opened.set_input_files("#files", [*files, fine])
    opened.locator(".card[data-state=queued]", has_text=fine.name).wait_for()
    refused = opened.locator(".card[data-state=refused]")
    refused.nth(2).wait_for()
    assert refused.locator(".error").all_inner_texts() == ["the file cannot be read any more"] * 3
    assert "choose it again" in refused.first.locator(".advice").inner_text()


def test_what_is_unknown_by_now_is_tried_again(
    page: Open, console: ConsoleProcess, client: Any
) -> None:
    """Also by a page that has not sent it: its object is in the store."""
    job = "a" * 32
    begin(console, job)
    path = f"/api/uploads/{BATCH}/{job}"
    request = urllib.request.Request(
        f"{console.url}{path}/0", b"0123456789", {"x-emostream": "1"}, method="PUT"
    )
    urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
    ask(console, "POST", f"{path}/finish")
    client.delete(KEYS.lanes[1], KEYS.result(job))
    opened = page()
    card = opened.locator(".card[data-state=gone]")
    card.get_by_role("button", name="Try again").click()
    opened.locator(".card[data-state=queued]").wait_for()
    assert client.xlen(KEYS.lanes[1]) == 1
