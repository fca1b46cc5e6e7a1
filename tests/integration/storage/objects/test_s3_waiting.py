"""The S3 store and time: servers that hang or drip, and fetches that wait for the budget."""

import os
import threading
import time

import pytest

from storage.errors import JobError, StageTimeout, StorageUnavailable
from storage.objects import s3
from tests.support.blobs import contents
from tests.support.s3_server import Exchange, connect, fetch, http_answer, scripted_server


def test_server_that_never_answers() -> None:
    """A hanging server holds a thread for no longer than the timeout."""
    with scripted_server(lambda exchange: exchange.stopping.wait()) as server:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="EMO_FETCH_TIMEOUT_SECONDS"):
            fetch(connect(server, timeout_seconds=0.3))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (http_answer("200 OK", Content_Length="1000"), StageTimeout),
        (b"HTTP/1.1 200 OK\r\nX-Drip: ", StorageUnavailable),
    ],
)
def test_server_that_drips(head: bytes, expected: type[JobError]) -> None:
    """A byte every now and then does not start the time again, in the body or the headers."""

    def script(exchange: Exchange) -> None:
        exchange.send(head)
        while not exchange.stopping.wait(0.05):
            exchange.send(b"x")

    with scripted_server(script) as server:
        began = time.monotonic()
        with pytest.raises(expected, match="EMO_FETCH_TIMEOUT_SECONDS"):
            fetch(connect(server, timeout_seconds=0.5))
        assert time.monotonic() - began < 5


def test_waiting_for_the_budget_is_not_waiting_for_the_server() -> None:
    """A budget that blocks for longer than the timeout does not fail the fetch."""
    with scripted_server(lambda exchange: exchange.send(http_answer("200 OK", b"body"))) as server:
        store = connect(server, timeout_seconds=0.5)
        never = threading.Event()

        def admit(size: int) -> None:
            never.wait(0.6)

        with store.fetch("k", max_bytes=4, admit=admit) as blob:
            assert contents(blob) == b"body"


def test_server_that_does_not_wait_for_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads nothing for long is cut off: the object is asked for again, and admitted once."""
    monkeypatch.setattr(s3, "_IDLE_SECONDS", 0.1)
    body = os.urandom(20_000_000)  # more than sockets hold
    admitted: list[int] = []
    cut_off = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", body[:1000], Content_Length=str(len(body))))
        if not cut_off.is_set():
            cut_off.set()
            raise ConnectionResetError
        exchange.send(body[1000:])

    def admit(size: int) -> None:
        admitted.append(size)
        cut_off.wait(10)
        threading.Event().wait(0.2)

    with scripted_server(script) as server:
        with connect(server).fetch("k", max_bytes=len(body), admit=admit) as blob:
            assert contents(blob) == body
        assert len(server.requests) == 2
    assert admitted == [len(body)]


@pytest.mark.parametrize("then", [b"longer", b"no"])
def test_object_that_changes_while_it_waits(then: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was admitted is of another size, so it is tried again."""
    monkeypatch.setattr(s3, "_IDLE_SECONDS", 0.1)
    bodies = [b"body", then]

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", bodies.pop(0)))

    def admit(size: int) -> None:
        time.sleep(0.2)  # room comes late: longer than a connection is trusted to wait

    with (
        scripted_server(script) as server,
        pytest.raises(StorageUnavailable, match="replaced"),
    ):
        connect(server).fetch("k", max_bytes=9, admit=admit)


def test_every_request_has_all_the_time_there_is() -> None:
    """What an answer used up of its time is given back to the connection for the next one."""

    def script(exchange: Exchange) -> None:
        exchange.stopping.wait(0.3)
        exchange.send(http_answer("200 OK", b"body"))

    with scripted_server(script) as server:
        store = connect(server, timeout_seconds=0.5)
        assert [fetch(store) for _ in range(3)] == [b"body"] * 3
        assert server.connections == 1


def test_budget_that_refuses_gives_the_connection_back() -> None:
    """An error from the budget passes through, and the connection is closed."""
    hung_up = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", b"half", Content_Length="8"))
        if exchange.hung_up():
            hung_up.set()

    def refuse(size: int) -> None:
        raise RuntimeError(f"no room for {size}")

    with scripted_server(script) as server:
        with pytest.raises(RuntimeError, match="no room for 8"):
            connect(server).fetch("k", max_bytes=8, admit=refuse)
        assert hung_up.wait(10)
