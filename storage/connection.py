"""How the programs reach Redis, and which of its errors mean "wait and try again"."""

import re
from collections.abc import Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

OLDEST_SERVER = (6, 2)
BLOCK_SECONDS = 1.0  # how long a blocking read waits; the socket must wait longer
_SOCKET_TIMEOUT_SECONDS = 10.0
_OVER_NETWORK: dict[str, Any] = {"socket_connect_timeout": 5.0, "socket_keepalive": True}
# Inside a script the server's reply is wrapped, so its code may stand anywhere.
_WAITING_REPLY = re.compile(
    r"\b(?:OOM|MISCONF|READONLY|LOADING|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|BUSY)\b"
)
_HASH_TAGGED = re.compile(r"[^{]*\{[^}]+\}")

# What the programs need of redis-py by name; nothing outside storage imports it.
__all__ = [
    "BLOCK_SECONDS",
    "OLDEST_SERVER",
    "Client",
    "RedisError",
    "UnfitServer",
    "check_server",
    "connect",
    "is_group_missing",
    "is_outage",
    "stream_entries",
    "uptime_seconds",
]

Client = redis.Redis
Entry = tuple[bytes, dict[bytes, bytes]]


class UnfitServer(Exception):
    """The server cannot be used as it is; the message says what to change."""


def connect(url: str, *, name: str) -> redis.Redis:
    """A client for `redis:// rediss:// unix://`, replies as bytes. Nothing is sent yet.

    Automatic retries are off: a repeated XADD would enqueue twice. Callers that may repeat do so
    themselves.
    """
    # A unix socket knows nothing of either.
    over_network = {} if url.startswith("unix:") else _OVER_NETWORK
    return redis.Redis.from_url(
        url,
        client_name=name,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=_SOCKET_TIMEOUT_SECONDS,
        **over_network,
    )


def check_server(client: redis.Redis, prefix: str) -> None:
    """Raise UnfitServer for a server that is too old, or a cluster without a hash-tagged prefix."""
    info = client.info("server")
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise UnfitServer(f"the server is Redis {version}; 6.2 or newer is needed")
    if info.get("redis_mode") == "cluster" and not _HASH_TAGGED.match(prefix):
        raise UnfitServer(
            f"EMO_PREFIX={prefix}: on Redis Cluster it must be a hash tag, like {{emo}}"
        )


def uptime_seconds(client: redis.Redis) -> float:
    """How long the server has been up."""
    return float(client.info("server")["uptime_in_seconds"])


def is_outage(error: RedisError) -> bool:
    """Whether the server is away or cannot write now: keep what is in flight, and wait."""
    if isinstance(error, AuthenticationError):
        return False
    if isinstance(
        error, (ConnectionError, TimeoutError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)
    ):
        return True
    return isinstance(error, ResponseError) and bool(_WAITING_REPLY.search(str(error)))


def is_group_missing(error: RedisError) -> bool:
    """Whether the consumer group is gone: a flushed or failed-over server."""
    return isinstance(error, ResponseError) and "NOGROUP" in str(error)


def stream_entries(reply: Any) -> Iterator[tuple[bytes, Entry]]:
    """Each (stream, entry) of an XREAD or XREADGROUP reply, whichever protocol it came by."""
    if isinstance(reply, dict):  # RESP3: a mapping, with one more level of lists
        for stream, batches in reply.items():
            yield from ((stream, entry) for batch in batches for entry in batch)
    else:
        for stream, batch in reply or []:
            yield from ((stream, entry) for entry in batch)
