"""Clients that send their parts slowly, on purpose or not: others get their turn."""

import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette

from producer.client import Client, Contract
from producer.console import parts, uploads
from producer.console.backend import FAULTS, Backend, answer_fault
from producer.console.parts import Parts
from producer.console.serve import config_of
from producer.console.settings import ConsoleSettings
from storage.objects.transfers import PART_BYTES
from storage.redis.embedded import EmbeddedRedis
from tests.support.polling import until

AT_ONCE = 2
PATIENCE_SECONDS = 0.1
WHOLE = os.urandom(100_000)
JOBS = [f"{number:032x}" for number in range(4 * AT_ONCE)]


class Uploads:
    """A server that takes parts, with a file begun for each job."""

    def __init__(self, port: int, parts: Parts, backend: Backend, store: Path) -> None:
        self._port, self.parts, self._backend = port, parts, backend
        self.store = store

    def begin(self, job: str) -> None:
        """Say that a file comes."""
        told = {"batch": "b", "job": job, "name": "a.wav", "size": len(WHOLE)}
        uploads._begin(self._backend, told, 0.0)

    @contextmanager
    def sending(self, job: str, data: bytes) -> Iterator[socket.socket]:
        """A client that has sent the head of its part, and so much of it."""
        head = f"PUT {self._path(job)} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(WHOLE)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as client:
            client.sendall(head.encode() + data)
            yield client

    def put(self, job: str) -> int:
        """The status of a part that is sent at once."""
        asking = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            asking.request("PUT", self._path(job), WHOLE)
            return asking.getresponse().status
        finally:
            asking.close()

    def _path(self, job: str) -> str:
        return f"/api/uploads/b/{job}/0"


@pytest.fixture
def server(redis_server: EmbeddedRedis, client: Any, store: Path) -> Iterator[Uploads]:
    """One with few places and little patience."""
    settings = ConsoleSettings(redis_url=redis_server.url, store=store.as_uri(), _env_file=None)
    parts = Parts(AT_ONCE, patience_seconds=PATIENCE_SECONDS, least_rate=1.0)
    with Client(redis_server.url, Contract.of(settings)) as queue:
        backend = Backend.of(settings, queue)
        app = Starlette(
            routes=uploads.routes(parts),
            exception_handlers=dict.fromkeys(FAULTS, answer_fault),
        )
        app.state.backend = backend
        serving = uvicorn.Server(config_of(app))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
            thread.start()
            made = Uploads(int(listening.getsockname()[1]), parts, backend, store)
            for job in JOBS:
                made.begin(job)
            yield made
            serving.should_exit = True
            thread.join()


@pytest.mark.parametrize("sent", [b"", WHOLE[:1000]], ids=["nothing", "a-little"])
def test_who_sends_nothing_gives_way(sent: bytes, server: Uploads) -> None:
    """Silent ones hold all places: another is answered, and they go until none of them waits."""
    *silent, last = JOBS
    with ExitStack() as stack:
        clients = [stack.enter_context(server.sending(job, sent)) for job in silent]
        until(server.parts._room.locked)
        assert server.put(last) == 200
        (file,) = (path for path in server.store.rglob("*") if last in str(path) and path.is_file())
        assert file.stat().st_size == len(WHOLE)
        answered = until(lambda: _readable(clients, len(clients) - AT_ONCE))
        assert all(b" 408 " in each.recv(4096) for each in answered)


def _readable(clients: Sequence[socket.socket], least: int) -> Sequence[socket.socket]:
    """Those that have an answer, when there are so many."""
    found, _, _ = select.select(clients, [], [], 0)
    return found if len(found) >= least else []


def test_who_is_slow_is_waited_for_where_nobody_else_waits(server: Uploads) -> None:
    """A bad line is no offence."""
    with server.sending(JOBS[0], WHOLE[:10]) as client:
        time.sleep(5 * PATIENCE_SECONDS)  # it is the slow client
        client.sendall(WHOLE[10:])
        assert b" 200 " in client.recv(4096)


def test_who_would_come_in_time_is_not_sent_away() -> None:
    """Else many who share a line, with more parts than places, would begin anew for ever."""
    assert parts._LEAST_RATE * parts._PART_SECONDS <= PART_BYTES
