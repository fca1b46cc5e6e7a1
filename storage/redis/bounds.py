"""Replies of a bounded size: what is larger is refused by its announced length, before its body.

Anyone who may add to a stream may add an entry of hundreds of megabytes. Redis gives it out whole,
and a client that takes it has it in memory several times over.
"""

# redis-py's parsers have no types.
# mypy: allow-untyped-calls

from typing import Any

from redis._parsers import (
    _AsyncHiredisParser,
    _AsyncRESP2Parser,
    _AsyncRESP3Parser,
    _HiredisParser,
    _RESP2Parser,
    _RESP3Parser,
)
from redis._parsers.socket import SocketBuffer
from redis.exceptions import RedisError

# Hundreds of jobs of the largest size that is allowed; nothing that we ask for comes near.
MAX_REPLY_BYTES = 32 * 1024**2
MAX_REPLY_PARTS = 150_000
_LINE_END = b"\r\n"
_LIST = ord("*")
_NEWER = 3


class ReplyTooLarge(RedisError):
    """A reply was announced that is larger than any should be. Its connection is closed.

    `first` is the first string in it: of one entry its id, whatever the entry holds.
    """

    def __init__(self, message: str, first: bytes = b"") -> None:
        super().__init__(message)
        self.first = first


class _BoundedBuffer(SocketBuffer):
    """What a socket receives, of which one reply may take no more than that."""

    _left_bytes = MAX_REPLY_BYTES
    _left_parts = MAX_REPLY_PARTS
    _first: bytes | None = None

    def begin_reply(self) -> None:
        """All that was asked for is allowed anew."""
        self._left_bytes, self._left_parts = MAX_REPLY_BYTES, MAX_REPLY_PARTS
        self._first = None

    def read(self, length: int, *args: Any, **options: Any) -> bytes:
        """So many bytes. Raises ReplyTooLarge before it waits for them."""
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise _too_many_bytes(self._first)
        found: bytes = super().read(length, *args, **options)
        if self._first is None:
            self._first = found
        return found

    def readline(self, *args: Any, **options: Any) -> bytes:
        """The head of the next part. Raises ReplyTooLarge."""
        self._left_parts -= 1
        if self._left_parts < 0:
            raise _too_many_parts(self._first)
        # Most are here already: half of the time of a reply is spent on its lines.
        line: bytes = self._buffer.readline()
        while not line.endswith(_LINE_END):
            self._read_from_socket(*args, **options)
            line += self._buffer.readline()
        if line[0] == _LIST and int(line[1:-2]) > self._left_parts:
            raise _too_many_parts(self._first)
        return line[:-2]


def _too_many_bytes(first: bytes | None) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply holds more than {MAX_REPLY_BYTES} bytes", first or b"")


def _too_many_parts(first: bytes | None) -> ReplyTooLarge:
    return ReplyTooLarge(f"the reply has more than {MAX_REPLY_PARTS} parts", first or b"")


class _Bounded:
    """A parser whose replies are bounded."""

    _buffer: Any

    def on_connect(self, connection: Any) -> None:
        """A buffer of ours in place of redis-py's."""
        super().on_connect(connection)  # type: ignore[misc]
        self._buffer.close()
        self._buffer = _BoundedBuffer(
            connection._sock, connection._socket_read_size, connection.socket_timeout
        )

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply. Raises ReplyTooLarge."""
        if self._buffer is not None:
            self._buffer.begin_reply()
        return super().read_response(*args, **options)  # type: ignore[misc]


class BoundedParser2(_Bounded, _RESP2Parser):
    """Of the older protocol."""


class BoundedParser3(_Bounded, _RESP3Parser):
    """Of the newer protocol."""


class BoundedReplies:
    """A connection whose replies are bounded, whichever parser redis-py would take."""

    protocol: int

    def set_parser(self, parser_class: type) -> None:
        """Ours for it; that of `hiredis`, of both protocols, hands nothing over in parts."""
        newer = issubclass(parser_class, _RESP3Parser)
        if issubclass(parser_class, _HiredisParser):
            newer = self.protocol == _NEWER
        super().set_parser(BoundedParser3 if newer else BoundedParser2)  # type: ignore[misc]


class _AsyncBounded:
    """A parser for an event loop whose replies are bounded."""

    _left_bytes = MAX_REPLY_BYTES
    _left_parts = MAX_REPLY_PARTS
    _first: bytes | None = None

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply. Raises ReplyTooLarge."""
        self._left_bytes, self._left_parts = MAX_REPLY_BYTES, MAX_REPLY_PARTS
        self._first = None
        return await super().read_response(*args, **options)  # type: ignore[misc]

    async def _read(self, length: int) -> Any:
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise _too_many_bytes(self._first)
        found = await super()._read(length)  # type: ignore[misc]
        if self._first is None:
            self._first = found
        return found

    async def _readline(self) -> Any:
        self._left_parts -= 1
        if self._left_parts < 0:
            raise _too_many_parts(self._first)
        line = await super()._readline()  # type: ignore[misc]
        if line[:1] == b"*" and int(line[1:]) > self._left_parts:
            raise _too_many_parts(self._first)
        return line


class AsyncBoundedParser2(_AsyncBounded, _AsyncRESP2Parser):
    """Of the older protocol."""


class AsyncBoundedParser3(_AsyncBounded, _AsyncRESP3Parser):
    """Of the newer protocol."""


class AsyncBoundedReplies:
    """A connection of an event loop whose replies are bounded."""

    protocol: int

    def set_parser(self, parser_class: type) -> None:
        """Ours for it."""
        newer = issubclass(parser_class, _AsyncRESP3Parser)
        if issubclass(parser_class, _AsyncHiredisParser):
            newer = self.protocol == _NEWER
        super().set_parser(AsyncBoundedParser3 if newer else AsyncBoundedParser2)  # type: ignore[misc]
