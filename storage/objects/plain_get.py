"""GETs of URLs that are signed already: what every job needs, and so without an SDK's layers.

By `http.client`, over connections that are kept, with the bounds of `bounded_http`. Every fault on
the way is a `Broken`. docs/performance.md says why it is not pycurl.
"""

import http.client
import re
import select
import socket
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from urllib.parse import urlsplit, urlunsplit

from storage.objects.blob import write_all
from storage.objects.bounded_http import BoundedResponse

_BUFFER_BYTES = 256 * 1024
_AGENT = "emostream"
_HEAD_END = b"\r\n\r\n"
# Of the head of an object: a status, and fields in a line each; and what frames the body.
_PLAIN_HEAD = re.compile(rb"HTTP/1\.1 200 [^\r\n]*(?:\r\n[!-9;-~]+:[^\r\n]*)*")
_FRAMING = re.compile(
    rb"\r\n(?:Content-Length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n|\Z)"
    rb"|(?:Content-Length|Transfer-Encoding|Connection|Upgrade):)",
    re.IGNORECASE,
)


class _Response(BoundedResponse):
    """One whose head is read here, where it is that of nearly all objects."""

    def begin(self) -> None:
        """Read the head. Raises HTTPException.

        The library has a parser of mails read it, which takes as long as all the rest. So whatever
        is not what a server says of an object, in one piece, is left to that.
        """
        head, end, _ = self.fp.peek().partition(_HEAD_END)
        length = _length_of(head) if end else None
        if length is None:
            super().begin()
            return
        self.fp.read(len(head) + len(end))
        self.begin_object(length)


def _length_of(head: bytes) -> int | None:
    """How long the object behind a head is; None where anything else is to be known of it."""
    lengths = _FRAMING.findall(head) if _PLAIN_HEAD.fullmatch(head) else []
    return int(lengths[0]) if len(lengths) == 1 and lengths[0] else None


class Broken(Exception):
    """No answer, or not all of it; `in_time` is false where the server took too long."""

    def __init__(self, error: Exception | str) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.in_time = not isinstance(error, TimeoutError)


class Answer:
    """The answer to a GET, its body not read yet. Owned by one thread."""

    def __init__(self, response: http.client.HTTPResponse, buffer: memoryview) -> None:
        self.status = response.status
        self.length: int | None = response.length  # of the body, where it is known
        self._response = response
        self._buffer = buffer

    def copy_to(self, fd: int) -> None:
        """Append the body to a file. Raises Broken, and OSError for what is the file's fault."""
        left = self.length or 0
        while left:
            with _broken():
                received = self._response.readinto(self._buffer[: min(left, len(self._buffer))])
            if not received:
                raise Broken(f"the answer ended {left} bytes early")
            write_all(fd, self._buffer[:received])
            left -= received

    def text(self) -> str:
        """The body of an error, a megabyte at most. Raises Broken."""
        with _broken():
            return self._response.read().decode()


class PlainGets:
    """Asks for URLs. Thread-safe; connections are kept, up to `connections` for each host.

    `timeout_seconds` is for connecting, sending and the whole answer; only time spent waiting for
    the server counts.
    """

    def __init__(self, *, timeout_seconds: float, connections: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._idle: defaultdict[str, deque[_Connection]] = defaultdict(deque)

    @contextmanager
    def ask(self, url: str) -> Iterator[Answer]:
        """The answer, to be read within. Raises Broken; no redirect is followed."""
        parts = urlsplit(url)
        idle = self._idle[f"{parts.scheme}://{parts.netloc}"]
        with _broken():
            connection = self._kept(idle) or self._connected(parts.scheme, parts.netloc)
            try:
                target = urlunsplit(("", "", parts.path, parts.query, ""))
                response = connection.get(target, parts.netloc)
            except BaseException:
                connection.close()
                raise
        try:
            yield Answer(response, connection.buffer)
        finally:
            whole = response.isclosed() or not response.length
            response.close()
            if whole and not response.will_close and len(idle) < self._connections:
                idle.append(connection)
            else:
                connection.close()

    def _kept(self, idle: "deque[_Connection]") -> "_Connection | None":
        while True:
            try:
                connection = idle.pop()  # the last one used is the likeliest to be there yet
            except IndexError:
                return None
            if connection.is_quiet():
                connection.allow(self._timeout_seconds)
                return connection
            connection.close()

    def _connected(self, scheme: str, netloc: str) -> "_Connection":
        began = time.monotonic()
        context = self._context if scheme == "https" else None
        connection = _Connection(netloc, context, self._timeout_seconds)
        # What connecting took is part of the limit; a hundredth of it is no limit at all.
        connection.allow(max(0.01, self._timeout_seconds - (time.monotonic() - began)))
        return connection

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """The system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""
        return ssl.create_default_context()


class _Connection:
    """A connection to a host, and memory for what it receives."""

    def __init__(self, netloc: str, context: ssl.SSLContext | None, timeout_seconds: float) -> None:
        self._http = (
            http.client.HTTPConnection(netloc, timeout=timeout_seconds)
            if context is None
            else http.client.HTTPSConnection(netloc, timeout=timeout_seconds, context=context)
        )
        self._http.response_class = _Response
        self._http.auto_open = False  # one that was closed is not opened unseen
        self._http.connect()
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)

    def allow(self, seconds: float) -> None:
        """The next request has so much time."""
        if self._socket.gettimeout() != seconds:
            self._socket.settimeout(seconds)

    def is_quiet(self) -> bool:
        """Whether the server has neither hung up nor sent what was not asked for."""
        return not self._readable.poll(0)

    def get(self, target: str, host: str) -> http.client.HTTPResponse:
        """Send a GET, and read the head of the answer."""
        self._http.putrequest("GET", target, skip_host=True)
        self._http.putheader("Host", host)
        self._http.putheader("User-Agent", _AGENT)
        self._http.endheaders()
        return self._http.getresponse()

    def close(self) -> None:
        self._http.close()

    @property
    def _socket(self) -> socket.socket:
        sock: socket.socket = self._http.sock
        return sock


@contextmanager
def _broken() -> Iterator[None]:
    """What a socket, TLS and HTTP raise, as Broken."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Broken(error) from error
