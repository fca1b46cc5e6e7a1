"""Clients that are slow, or silent on purpose: others are answered all the same."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from producer.console.serve import config_of

MOST = 8
IDLE_SECONDS = 1
MOST_DRIPS = 200  # there is time for ten
LARGE_BYTES = 64 * 1024**2
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def whole(request: Request) -> Response:
    """Answer when all has come."""
    with suppress(ClientDisconnect):
        await request.body()
    return PlainTextResponse("yes")


async def large(_: Request) -> Response:
    """More than any buffer between the two takes."""
    return Response(bytes(LARGE_BYTES))


async def who(request: Request) -> Response:
    """Who asks, and how."""
    assert request.client is not None
    return PlainTextResponse(f"{request.client.host} {request.url.scheme}")


async def at_once(_: Request) -> Response:
    """Answer without reading."""
    return PlainTextResponse("no", 403)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server as the console has it, with few connections and little patience."""
    with serving() as listening:
        yield listening


@contextmanager
def serving(proxies: Sequence[str] = ()) -> Iterator[int]:
    """Such a server that believes those proxies."""
    routes = [
        Route("/", whole, methods=["GET", "POST"]),
        Route("/no", at_once, methods=["GET", "POST"]),
        Route("/large", large),
        Route("/who", who),
    ]
    app = Starlette(routes=routes)
    server = uvicorn.Server(config_of(app, most=MOST, idle_seconds=IDLE_SECONDS, proxies=proxies))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        yield int(listening.getsockname()[1])
        server.should_exit = True
        running.join()


@contextmanager
def connected(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    """A client that has sent that."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(sent)
        yield client


def ask(port: int) -> int:
    """The status of a request as browsers send it."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        asking.request("GET", "/")
        return asking.getresponse().status
    finally:
        asking.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        HEAD,
        HEAD + b"content-length: 1000\r\n\r\nhalf",
        b"POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf",
    ],
    ids=["nothing", "a-line", "a-head", "a-body", "a-body-behind-its-answer"],
)
def test_a_crowd_that_asks_nothing_whole_gives_way(sent: bytes, port: int) -> None:
    """However many there are, and whatever they began."""
    with ExitStack() as crowd:
        for _ in range(3 * MOST):
            crowd.enter_context(connected(port, sent))
        assert [ask(port) for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("asked", [1, 50], ids=["once", "again-and-again"])
def test_a_crowd_that_reads_nothing_gives_way(asked: int, port: int) -> None:
    """Each waits for its answer, and does not take it."""
    with ExitStack() as crowd:
        for _ in range(3 * MOST):
            client = crowd.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.settimeout(60)
            client.connect(("127.0.0.1", port))
            client.sendall(asked * b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(1, socket.MSG_PEEK)  # it is being answered, before the next comes
        assert [ask(port) for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        ([], b"127.0.0.1 http"),
        (["127.0.0.0/8"], b"203.0.113.9 https"),
        (["172.16.0.0/12"], b"127.0.0.1 http"),
    ],
    ids=["none", "this-one", "another"],
)
def test_a_proxy_is_believed_where_it_is_named(proxies: list[str], seen: bytes) -> None:
    """Logins are counted by the address, and their cookie is for HTTPS alone."""
    told = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
    with serving(proxies) as port:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        asking.request("GET", "/who", headers=told)
        assert asking.getresponse().read() == seen
        asking.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HEAD,
        b"POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET",
    ],
    ids=["from-the-start", "in-a-head", "in-a-body-behind-its-answer", "in-a-second-head"],
)
def test_who_drips_is_cut_off(sent: bytes, port: int) -> None:
    """A byte now and then is no request."""
    with connected(port, sent) as client:
        client.settimeout(0.1 * IDLE_SECONDS)
        for _ in range(MOST_DRIPS):
            try:
                client.sendall(b"x")
                if not client.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail(f"it is not cut off after {MOST_DRIPS} bytes")


def test_who_sends_slowly_but_asks_is_answered(port: int) -> None:
    """A body may take longer than a head."""
    with connected(port, HEAD + b"content-length: 4\r\n\r\n") as client:
        for _ in range(4):
            time.sleep(0.4 * IDLE_SECONDS)  # it is the slow client
            client.sendall(b"x")
        assert b" 200 " in client.recv(4096)
