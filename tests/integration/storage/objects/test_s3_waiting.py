"""The S3 store and time: servers that hang or drip, and fetches that wait for the budget."""

import os
import threading
import time

import pytest

from storage.errors import JobError, StageTimeout, StorageUnavailable
from storage.objects import bounded_http, plain_get, s3
from tests.support.blobs import contents
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.s3_server import Clock, Exchange, connect, fetch, http_answer, scripted_server


def test_server_that_never_answers() -> None:
    """A hanging server holds a thread for no longer than the timeout."""
    with scripted_server(lambda exchange: exchange.stopping.wait()) as server:
        with pytest.raises(StorageUnavailable, match=r"timed out.*EMO_FETCH_TIMEOUT_SECONDS"):
            fetch(connect(server, timeout_seconds=0.3))
        until(lambda: server.requests)  # which notes them on a thread of its own
        assert len(server.requests) == 1  # another would take the time again


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (http_answer("200 OK", Content_Length="1000"), StageTimeout),
        (b"HTTP/1.1 200 OK\r\nX-Drip: ", StorageUnavailable),
    ],
)
def test_server_that_drips(
    head: bytes, expected: type[JobError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte every now and then does not start the time again, in the body or the headers."""
    dripped = []

    def script(exchange: Exchange) -> None:
        exchange.send(head)
        while not exchange.stopping.wait(0.01):
            exchange.send(b"x")
            dripped.append(b"x")

    clock = Clock(tick=5)
    monkeypatch.setattr(bounded_http, "time", clock)
    with (
        scripted_server(script) as server,
        pytest.raises(expected, match=r"too long in all.*EMO_FETCH_TIMEOUT_SECONDS"),
    ):
        fetch(connect(server, timeout_seconds=60))
    assert clock.looks == 2 * 60 / clock.tick, "a read takes a tick"
    assert len(dripped) < 500


def test_waiting_for_the_budget_is_not_waiting_for_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A budget that blocks for longer than the timeout does not fail the fetch."""
    clock, headed = Clock(), threading.Event()
    for module in (bounded_http, plain_get):
        monkeypatch.setattr(module, "time", clock)

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", Content_Length="4"))
        headed.wait(TIMEOUT_SECONDS)
        exchange.send(b"body")

    with scripted_server(script) as server:
        store = connect(server)

        def admit(size: int) -> None:
            clock.now += 2 * TIMEOUT_SECONDS
            headed.set()

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


def test_every_request_has_all_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an answer used up of its time is given back to the connection for the next one."""
    monkeypatch.setattr(bounded_http, "time", Clock(tick=25))
    headed = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", Content_Length="4"))
        headed.wait(TIMEOUT_SECONDS)
        headed.clear()
        exchange.send(b"body")

    with scripted_server(script) as server:
        store = connect(server, timeout_seconds=60)
        for _ in range(3):
            with store.fetch("k", max_bytes=4, admit=lambda size: headed.set()) as blob:
                assert contents(blob) == b"body"
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
        assert hung_up.wait(TIMEOUT_SECONDS)
