"""A urllib3 pool whose answers are limited in total time and, but for objects, in length.

An ordinary read timeout starts again with every byte, so a server that drips them would hold a
thread for ever. And the SDK has the whole of every other answer in memory, however long it is.
"""

import http.client
import io
import socket
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only

# Of headers, of an error, and of what is answered to an upload: real ones take a thousandth.
_MOST_BYTES = 1024**2
# Telling a socket its timeout gives up Python's lock: of little less than it knows, it is not told,
# so that an answer may take a ninth longer than its limit.
_WORTH_TELLING = 0.9


def bounded_pool(*, timeout_seconds: float, connections: int) -> urllib3.PoolManager:
    """A thread-safe pool, without retries or redirects.

    `timeout_seconds` is for connecting, sending and the whole answer; only time spent waiting
    for the server counts. Of what is no object, a megabyte is read at most. Keeps up to
    `connections` idle connections to a host.
    """
    pool = urllib3.PoolManager(
        maxsize=connections,
        timeout=urllib3.Timeout(total=timeout_seconds),
        retries=False,
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return pool


class _Reader(io.RawIOBase):
    """What a socket receives, within the socket's timeout in all. Owned by one response.

    It ends after `left_bytes` where that is a number.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limit_seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._limit_seconds = limit_seconds
        self._left_seconds = self._told_seconds = limit_seconds
        self.left_bytes: int | None = _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        if self._left_seconds <= 0:
            raise TimeoutError("the answer took too long in all")
        if self.left_bytes is not None and self.left_bytes <= 0:
            raise _too_long()
        if self._left_seconds < _WORTH_TELLING * self._told_seconds:
            self._tell(self._left_seconds)
        began = time.monotonic()
        try:
            received = self._raw.readinto(buffer)
        finally:
            self._left_seconds -= time.monotonic() - began
        if self.left_bytes is not None:
            self.left_bytes -= received or 0
        return received

    def close(self) -> None:
        told_less = self._told_seconds != self._limit_seconds
        if told_less and not self.closed and self._sock.fileno() >= 0:
            # The connection may be used again: its next request has all the time there is.
            self._tell(self._limit_seconds)
        self._raw.close()
        super().close()

    def _tell(self, seconds: float) -> None:
        self._sock.settimeout(seconds)
        self._told_seconds = seconds


class BoundedResponse(http.client.HTTPResponse):
    """An answer, status line to last byte, within the timeout its socket had at the start."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        limit_seconds = sock.gettimeout()
        assert limit_seconds is not None  # the pool has one
        self._is_get = method == "GET"
        self._reader = _Reader(self.fp.detach(), sock, limit_seconds)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the head. Raises HTTPException where it, or what is to come, is too long."""
        super().begin()
        if self._is_get and self.status == HTTPStatus.OK:
            self._reader.left_bytes = None  # an object: whoever fetches it knows how long it may be
            return
        if (self.length or 0) > _MOST_BYTES:
            raise _too_long()
        del self.headers["Content-Encoding"]  # unasked for; it could unpack to a thousand times

    def begin_object(self, length: int) -> None:
        """The head was read elsewhere: an object of so many bytes, behind which others may come."""
        self.version, self.code, self.status, self.reason = 11, HTTPStatus.OK, HTTPStatus.OK, ""
        self.headers = self.msg = http.client.HTTPMessage()
        self.chunked, self.will_close, self.length = False, False, length
        self._reader.left_bytes = None


def _too_long() -> http.client.HTTPException:
    return http.client.HTTPException(f"an answer of more than {_MOST_BYTES} bytes is no object")


class BoundedConnection(HTTPConnection):
    """A connection with bounded answers; urllib3's messages show its name."""

    response_class = BoundedResponse


class BoundedTLSConnection(HTTPSConnection):
    """The same by TLS."""

    response_class = BoundedResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = BoundedConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = BoundedTLSConnection
