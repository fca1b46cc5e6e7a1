"""How the programs reach Redis, and which of its errors mean "wait and try again"."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, UnixDomainSocketConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from storage.redis.bounds import BoundedReplies, ReplyTooLarge
from storage.redis.failover import (
    ClusterNodes,
    Fixed,
    FollowingConnection,
    FollowingTlsConnection,
    Redirected,
    Sentinels,
    Whereabouts,
)
from storage.redis.url import Address, Kind, RedisUrl, is_hash_tagged, parse_redis_url

OLDEST_SERVER = (6, 2)
BLOCK_SECONDS = 1.0  # how long a blocking read waits; the socket must wait longer
SOCKET_TIMEOUT_SECONDS = 10.0
_CONNECT_TIMEOUT_SECONDS = 5.0
_SENTINEL_TIMEOUT_SECONDS = 2.0  # there are others to ask
MOST_REDIRECTIONS = 5
# Inside a script the server's reply is wrapped, so its code may stand anywhere.
_WAITING_REPLY = re.compile(
    r"\b(?:OOM|MISCONF|READONLY|LOADING|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|BUSY"
    # a blocked read while its server was demoted; a slot on its way to another node
    r"|UNBLOCKED|access a non local key)\b"
)

_OUTAGES = (
    AskError,  # or a redirection that was not followed
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,  # in a pipeline that was redirected: the next one brings the scripts
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    TryAgainError,
)

# What the programs need of redis-py by name; nothing outside storage imports it.
__all__ = [
    "BLOCK_SECONDS",
    "OLDEST_SERVER",
    "Client",
    "RedisError",
    "ReplyTooLarge",
    "UnfitServer",
    "check_server",
    "connect",
    "is_group_missing",
    "is_outage",
    "server_now_ms",
    "stream_entries",
    "uptime_seconds",
]

Client = redis.Redis
Entry = tuple[bytes, dict[bytes, bytes]]


# What redis-py would send on every connection, and users with few rights may not.
_QUIET: dict[str, Any] = {
    "driver_info": None,
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
}


class _UnixConnection(BoundedReplies, UnixDomainSocketConnection):
    """A connection by a socket of the file system."""


class UnfitServer(Exception):
    """The server cannot be used as it is; the message says what to change."""


def connection_options(target: RedisUrl, name: str, timeout_seconds: float) -> dict[str, Any]:
    """What every connection to that server is made with, of threads and of event loops."""
    options = {
        **target.options,
        "client_name": name,
        "decode_responses": False,
        "socket_timeout": timeout_seconds,
        **_QUIET,
    }
    if target.kind is not Kind.UNIX:
        options["socket_connect_timeout"] = min(_CONNECT_TIMEOUT_SECONDS, timeout_seconds)
    return options


def connect(url: str, *, name: str, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> redis.Redis:
    """A client for any form of EMO_REDIS_URL, replies as bytes. Nothing is sent yet.

    Automatic retries are off: a repeated XADD would enqueue twice. Callers that may repeat do so
    themselves. A redirection alone is followed, since nothing was carried out. A reply is waited
    for `timeout_seconds`: longer than BLOCK_SECONDS where reads block. Raises ValueError for a URL
    that cannot be understood.
    """
    target = parse_redis_url(url)
    options = connection_options(target, name, timeout_seconds)
    options["retry"] = Retry(NoBackoff(), MOST_REDIRECTIONS, supported_errors=(Redirected,))
    if target.kind is Kind.UNIX:
        return redis.Redis.from_pool(ConnectionPool(_UnixConnection, path=target.path, **options))
    return redis.Redis.from_pool(
        ConnectionPool(
            FollowingTlsConnection if target.tls else FollowingConnection,
            whereabouts=whereabouts_of(target),
            **options,
        )
    )


def check_server(client: redis.Redis, prefix: str) -> None:
    """Raise UnfitServer for a server that is too old, or not what EMO_REDIS_URL says it is."""
    judge_server(client.info("server"), client.connection_pool.connection_kwargs, prefix)


def judge_server(info: Mapping[str, Any], options: Mapping[str, Any], prefix: str) -> None:
    """The same, by what it says of itself and what its connections are made with."""
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise UnfitServer(f"the server is Redis {version}; 6.2 or newer is needed")
    mode = info.get("redis_mode") or info.get("server_mode")  # Valkey has a name of its own for it
    if mode == "sentinel":
        raise UnfitServer("this is a sentinel: write redis+sentinel://host:port/MASTER")
    if mode != "cluster":
        return
    if not isinstance(options.get("whereabouts"), ClusterNodes):
        raise UnfitServer("this is a node of a Redis Cluster: write redis+cluster://host:port")
    if not is_hash_tagged(prefix):
        raise UnfitServer(
            f"EMO_PREFIX={prefix}: on Redis Cluster it must be a hash tag, like {{emo}}"
        )


def uptime_seconds(client: redis.Redis) -> float:
    """How long the server has been up."""
    return float(client.info("server")["uptime_in_seconds"])


def server_now_ms(client: redis.Redis) -> int:
    """The time by the server's clock, in milliseconds since 1970."""
    seconds, microseconds = client.time()
    return 1000 * int(seconds) + int(microseconds) // 1000


def is_outage(error: RedisError) -> bool:
    """Whether the server is away or cannot write now: keep what is in flight, and wait."""
    if isinstance(error, AuthenticationError):
        return False
    if isinstance(error, _OUTAGES):
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


def whereabouts_of(target: RedisUrl) -> Whereabouts:
    """How the server that the URL names is found."""
    if target.kind is Kind.SENTINEL:
        return Sentinels(target.nodes, target.master, ask=partial(_sentinel, target))
    if target.kind is Kind.CLUSTER:
        return ClusterNodes(target.nodes)
    return Fixed(target.nodes[0])


def _sentinel(target: RedisUrl, address: Address) -> redis.Redis:
    """A client of one sentinel: with TLS as the servers have it, and credentials of its own."""
    tls = {name: value for name, value in target.options.items() if name.startswith("ssl_")}
    return redis.Redis.from_pool(
        ConnectionPool(
            FollowingTlsConnection if target.tls else FollowingConnection,
            whereabouts=Fixed(address),
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_SENTINEL_TIMEOUT_SECONDS,
            socket_connect_timeout=_SENTINEL_TIMEOUT_SECONDS,
            **tls,
            **target.sentinel_options,
            **_QUIET,
        )
    )
