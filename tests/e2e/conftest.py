"""The programs as users start them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from tests.support.console import ConsoleProcess, browser, console_process
from tests.support.console_pages import Open
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.worker_process import ROOT

Program = Callable[..., subprocess.CompletedProcess[str]]


def run_program(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` there, away from a developer's .env, with these EMO_ variables alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=place,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `python -m …` in a directory of the test's own."""
    return partial(run_program, tmp_path)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a module."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and room for logs."""
    made = tmp_path_factory.mktemp("console")
    (made / "store").mkdir()
    return made


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[EmbeddedRedis]:
    """A server of these tests' own."""
    with EmbeddedRedis(place / "redis") as started:
        yield started


@pytest.fixture
def queue(server: EmbeddedRedis) -> Iterator[Any]:
    """A connection to it, emptied."""
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as connected:
        connected.flushall()
        yield connected


@pytest.fixture(scope="module")
def console(server: EmbeddedRedis, place: Path) -> Iterator[ConsoleProcess]:
    """One that may be called `desk.test`."""
    names = {"EMO_CONSOLE_HOSTS": "desk.test"}
    with console_process(place, server.url, place / "store", **names) as served:
        yield served


@pytest.fixture
def page(chromium: Any, console: ConsoleProcess, queue: Any) -> Iterator[Open]:
    """Open a page of it, while its server is empty."""
    contexts: list[Any] = []

    def make(path: str, *, url: str = console.url, **options: Any) -> Any:
        contexts.append(chromium.new_context(**options))
        opened = contexts[-1].new_page()
        opened.set_default_timeout(60_000)
        opened.goto(url.rstrip("/") + path)
        opened.wait_for_selector("body[data-ready]")
        return opened

    yield make
    for context in contexts:
        context.close()
