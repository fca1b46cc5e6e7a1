"""A proxy in front of the S3 server that fails as it is told."""

import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.client import HTTPException, HTTPResponse
from socket import create_connection, socket
from socketserver import StreamRequestHandler, ThreadingTCPServer

_SLOW_SECONDS = 0.4
_LONGEST_HANG_SECONDS = 60.0
_SHORT_SLICES = 4  # a slow body comes in so many parts


class Mood(Enum):
    """How the store behaves."""

    CALM = auto()
    REFUSES = auto()  # 503
    HANGS = auto()  # takes the request, and says nothing
    SLOW = auto()
    CUTS = auto()  # hangs up in the middle of the body


class StoreProxy:
    """Passes S3 requests on, byte for byte: what is signed stays signed.

    Beside the mood of all, keys have one of their own: `flaky-K-…` fails its first K times,
    `slow-…` is always slow. Thread-safe.
    """

    def __init__(self, upstream: str, address: str) -> None:
        self.address = address
        self.faults: Counter[str] = Counter()
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self._changed = threading.Condition()
        self._mood = Mood.CALM
        self._asked: Counter[str] = Counter()

    def be(self, mood: Mood) -> None:
        """Behave so from now on; whoever hangs is let go."""
        with self._changed:
            self._mood = mood
            self._changed.notify_all()

    def next_mood(self, target: str) -> Mood:
        """How to treat this request."""
        key = target.partition("?")[0].rpartition("/")[2]
        with self._changed:
            mood = self._mood
            if mood is Mood.CALM and key.startswith("slow-"):
                mood = Mood.SLOW
            elif mood is Mood.CALM and key.startswith("flaky-"):
                self._asked[key] += 1
                if self._asked[key] <= int(key.split("-")[1]):
                    even = zlib.crc32(key.encode()) % 2
                    mood = Mood.REFUSES if even else Mood.CUTS
            if mood is not Mood.CALM:
                self.faults[mood.name] += 1
        return mood

    def hang(self) -> None:
        """Return when the store no longer hangs."""
        with self._changed:
            self._changed.wait_for(lambda: self._mood is not Mood.HANGS, _LONGEST_HANG_SECONDS)

    def dawdle(self, seconds: float) -> None:
        """Let time pass."""
        threading.Event().wait(seconds)


class _Handler(StreamRequestHandler):
    """One client connection, and one to the server."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        try:
            with create_connection(server.proxy.upstream) as upstream:
                while request := self._request():
                    if not self._answer(server.proxy, upstream, request):
                        return
        except (OSError, HTTPException):
            pass  # one of the two hung up

    def _request(self) -> bytes:
        """Request line and headers; the requests that workers make here have no body."""
        lines = []
        while line := self.rfile.readline():
            lines.append(line)
            if not line.strip():
                return b"".join(lines)
        return b""

    def _answer(self, proxy: StoreProxy, upstream: socket, request: bytes) -> bool:
        """Answer as the mood is; False where the connection ends with that."""
        mood = proxy.next_mood(request.split(b" ", 2)[1].decode())
        if mood is Mood.REFUSES:
            self.wfile.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            return True
        if mood is Mood.HANGS:
            proxy.hang()
            return False
        upstream.sendall(request)
        response = HTTPResponse(upstream, method=request.split(b" ", 1)[0].decode())
        response.begin()
        body = response.read()
        self.wfile.write(_head(response, len(body)))
        if mood is Mood.CUTS and body:
            self.wfile.write(body[: len(body) // 2])
            return False
        slices = _SHORT_SLICES if mood is Mood.SLOW else 1
        for number in range(slices):
            if mood is Mood.SLOW:
                proxy.dawdle(_SLOW_SECONDS / slices)
            self.wfile.write(
                body[number * len(body) // slices : (number + 1) * len(body) // slices]
            )
        return not response.will_close


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: StoreProxy


@contextmanager
def store_proxy(upstream: str) -> Iterator[StoreProxy]:
    """A proxy on a loopback port of its own, in front of `upstream` (host:port)."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        host, port = server.server_address[:2]
        server.proxy = StoreProxy(upstream, f"{host!s}:{port}")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield server.proxy
        finally:
            server.proxy.be(Mood.CALM)
            server.shutdown()
            serving.join()


def _head(response: HTTPResponse, size: int) -> bytes:
    """The response's head, with the body's length instead of its chunks."""
    own = {"content-length", "transfer-encoding"}
    headers = [(name, value) for name, value in response.getheaders() if name.lower() not in own]
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers] + [f"Content-Length: {size}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
