"""The same connections for an event loop: they find their server, and take replies of a size."""

# redis-py's connections have no types.
# mypy: allow-untyped-calls

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from storage.redis.bounds import AsyncBoundedReplies
from storage.redis.connection import (
    MOST_REDIRECTIONS,
    SOCKET_TIMEOUT_SECONDS,
    connection_options,
    judge_server,
    whereabouts_of,
)
from storage.redis.failover import Redirected, Whereabouts, misdirected
from storage.redis.url import Kind, parse_redis_url

AsyncRedis = redis.asyncio.Redis
T = TypeVar("T")


class _AsyncUnixConnection(AsyncBoundedReplies, UnixDomainSocketConnection):
    """A connection by a socket of the file system."""


class AsyncFollowingConnection(AsyncBoundedReplies, Connection):
    """`FollowingConnection` on an event loop. Owned by one task at a time."""

    def __init__(self, *, whereabouts: Whereabouts, **options: Any) -> None:
        self._whereabouts = whereabouts
        super().__init__(**options)

    async def connect(self) -> None:
        """Connect, unless it is connected to the right server already."""
        if self.is_connected and self._whereabouts.stale((self.host, self.port)):
            await self.disconnect()
        await super().connect()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and learn what a new connection can tell."""
        await super().on_connect_check_health(check_health)
        answer: Any = None
        if self._whereabouts.question:
            try:
                await self.send_command(*self._whereabouts.question, check_health=False)
                answer = await self.read_response()
            except ResponseError as error:
                answer = error
        self._whereabouts.connected((self.host, self.port), answer)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """A reply; one of a server that is not the right one any more ends the connection."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            wrong = misdirected(self._whereabouts, (self.host, self.port), error)
            if wrong is None:
                raise
            await self.disconnect(nowait=True)
            raise wrong from error

    async def _connect(self) -> None:
        fault: OSError | TimeoutError | None = None
        candidates = self._whereabouts.candidates()
        # Sentinels are asked by a blocking client.
        while (address := await asyncio.to_thread(next, candidates, None)) is not None:
            self.host, self.port = address
            try:
                await super()._connect()
            except (OSError, TimeoutError) as error:
                fault = error
            else:
                return
        raise fault or OSError("no server is known")


class AsyncFollowingTlsConnection(AsyncFollowingConnection, SSLConnection):
    """The same over TLS."""


def connect_async(
    url: str, *, name: str, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS
) -> AsyncRedis:
    """`connect` for an event loop. Nothing is sent yet. Raises ValueError for a wrong URL."""
    target = parse_redis_url(url)
    options = connection_options(target, name, timeout_seconds)
    options["retry"] = Retry(NoBackoff(), MOST_REDIRECTIONS, supported_errors=(Redirected,))
    if target.kind is Kind.UNIX:
        kind: type = _AsyncUnixConnection
        options["path"] = target.path
    else:
        kind = AsyncFollowingTlsConnection if target.tls else AsyncFollowingConnection
        options["whereabouts"] = whereabouts_of(target)
    return AsyncRedis.from_pool(ConnectionPool(kind, **options))


async def heeding_cancellation(asked: Awaitable[T]) -> T:
    """What comes of it. Raises CancelledError where the task was cancelled, whatever came.

    redis-py sends by `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes in
    the moment in which it has sent: the task would go on, and whoever waits for its end, for ever.
    """
    task = asyncio.current_task()
    assert task
    before = task.cancelling()
    try:
        return await asked
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


async def check_server_async(client: AsyncRedis, prefix: str) -> None:
    """`check_server` on an event loop. Raises UnfitServer."""
    info = await heeding_cancellation(client.info("server"))
    judge_server(info, client.connection_pool.connection_kwargs, prefix)
