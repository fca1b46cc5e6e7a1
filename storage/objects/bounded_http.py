"""A urllib3 pool whose answers are limited in total time, not only from one byte to the next.

An ordinary read timeout starts again with every byte, so a server that drips them would hold a
thread for ever.
"""

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only


def bounded_pool(*, timeout_seconds: float, connections: int) -> urllib3.PoolManager:
    """A thread-safe pool, without retries or redirects.

    `timeout_seconds` is for connecting, sending and the whole answer; only time spent waiting
    for the server counts. Keeps up to `connections` idle connections to a host.
    """
    pool = urllib3.PoolManager(
        maxsize=connections,
        timeout=urllib3.Timeout(total=timeout_seconds),
        retries=False,
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return pool


class _Reader(io.RawIOBase):
    """What a socket receives, within the socket's timeout in all. Owned by one response."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, limit_seconds: float) -> None:
        self._raw = raw
        self._sock = sock
        self._limit_seconds = limit_seconds
        self._left_seconds = limit_seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        if self._left_seconds <= 0:
            raise TimeoutError("the answer took too long in all")
        self._sock.settimeout(self._left_seconds)
        began = time.monotonic()
        try:
            return self._raw.readinto(buffer)
        finally:
            self._left_seconds -= time.monotonic() - began

    def close(self) -> None:
        if not self.closed and self._sock.fileno() >= 0:
            # The connection may be used again: its next request has all the time there is.
            self._sock.settimeout(self._limit_seconds)
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
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
        if limit_seconds is not None:
            self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, limit_seconds))


class BoundedConnection(HTTPConnection):
    """A connection with bounded answers; urllib3's messages show its name."""

    response_class = _Response


class BoundedTLSConnection(HTTPSConnection):
    """The same by TLS."""

    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = BoundedConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = BoundedTLSConnection
