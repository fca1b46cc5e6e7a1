"""Connections that find their server: by name, by Sentinel, or by a cluster's redirections.

All keys of one prefix lie in one slot, so at any time one node of a cluster holds them all, and a
plain client of that node does everything: scripts, pipelines, blocking reads. redis-py's
RedisCluster would send again what may have been carried out, ask the server where the keys of an
XREADGROUP are, and not load scripts that a pipeline needs.
"""

# redis-py's connections have no types.
# mypy: allow-untyped-calls

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import redis
from redis.connection import Connection, SSLConnection
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from storage.redis.bounds import BoundedReplies
from storage.redis.url import Address


class Redirected(ConnectionError):
    """Another node of the cluster holds the key. Nothing was carried out: send it again, there."""


class Unserved(ConnectionError):
    """The server is a replica now, or out of its cluster, and did nothing: look elsewhere."""


class Whereabouts(Protocol):
    """Where the server is. Thread-safe; shared by all connections of a client.

    A new connection asks its server the `question`, where there is one.
    """

    question: Sequence[str]

    def candidates(self) -> Iterator[Address]:
        """Where to try to connect, in order. Raises ConnectionError where nobody knows."""

    def stale(self, address: Address) -> bool:
        """Whether a connection to that address is no longer one to the server."""

    def moved(self, address: Address) -> bool:
        """A server sent us to that address; whether to go."""

    def left(self, address: Address) -> None:
        """The server at that address does not serve us any more."""

    def connected(self, address: Address, answer: Any) -> None:
        """A new connection is ready, and this is the answer. Raises it where it is an error."""


class Fixed:
    """One server, by name; the name may come to mean another machine."""

    question: Sequence[str] = ()

    def __init__(self, address: Address) -> None:
        self._address = address

    def candidates(self) -> Iterator[Address]:
        """The one."""
        yield self._address

    def stale(self, address: Address) -> bool:
        """Never."""
        return False

    def moved(self, address: Address) -> bool:
        """A node of a cluster is no server for us: see check_server."""
        return False

    def left(self, address: Address) -> None:
        """The name may mean another machine at the next connection."""

    def connected(self, address: Address, answer: Any) -> None:
        """There is nothing to learn."""


class Sentinels:
    """Asks sentinels for the master, at every new connection, until one names a server that is up.

    That one is asked first from then on; one whose master turns out to be none is asked last.
    `ask` makes a client of the sentinel at an address.
    """

    question: Sequence[str] = ()

    def __init__(
        self, sentinels: Sequence[Address], master: str, *, ask: Callable[[Address], redis.Redis]
    ) -> None:
        self._sentinels = list(sentinels)
        self._master = master
        self._ask = ask
        self._named: dict[Address, Address] = {}  # which sentinel named a master
        self._latest: Address | None = None
        self._lock = threading.Lock()

    def candidates(self) -> Iterator[Address]:
        """The master, as each sentinel that answers knows it; the answer of one may be old."""
        faults = []
        tried: set[Address] = set()
        with self._lock:
            sentinels = list(self._sentinels)
        for sentinel in sentinels:
            try:
                with self._ask(sentinel) as client:
                    found: Any = client.sentinel_get_master_addr_by_name(self._master)
            except RedisError as error:
                faults.append(f"{shown(sentinel)}: {error}")
                continue
            if found is None:
                faults.append(f"{shown(sentinel)} does not know it")
                continue
            master = (found[0], int(found[1]))
            if master in tried:
                continue
            tried.add(master)
            with self._lock:
                self._named[master] = sentinel
            yield master
        if not tried:
            said = "; ".join(faults)
            raise ConnectionError(f"no sentinel names the master {self._master}: {said}")

    def stale(self, address: Address) -> bool:
        """Whether the master was found elsewhere since."""
        return self._latest not in (None, address)

    def moved(self, address: Address) -> bool:
        """A master that is a node of a cluster is no server for us."""
        return False

    def left(self, address: Address) -> None:
        """The sentinels are asked at the next connection, last the one that named this server."""
        with self._lock:
            sentinel = self._named.get(address)
            self._sentinels.sort(key=lambda one: one == sentinel)

    def connected(self, address: Address, answer: Any) -> None:
        """Whoever named this server is asked first from now on."""
        with self._lock:
            self._latest = address
            sentinel = self._named.get(self._latest)
            self._sentinels.sort(key=lambda one: one != sentinel)


class ClusterNodes:
    """The nodes of a cluster, and which of them holds our slot: any node tells, by MOVED."""

    question: Sequence[str] = ("CLUSTER", "SLOTS")

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._seeds = list(seeds)
        self._others: list[Address] = []  # those of the latest answer
        self._home: Address | None = None
        self._lock = threading.Lock()

    def candidates(self) -> Iterator[Address]:
        """The node that holds the keys, where it is known and up; then the others."""
        with self._lock:
            home, others = self._home, [*self._seeds, *self._others]
        if home is not None:
            yield home
            self.left(home)  # we are here again because it could not be reached
        random.shuffle(others)
        yield from (node for node in others if node != home)

    def stale(self, address: Address) -> bool:
        """Whether the keys are known to be elsewhere."""
        return self._home not in (None, address)

    def moved(self, address: Address) -> bool:
        """That node holds the keys."""
        with self._lock:
            self._home = address
        return True

    def left(self, address: Address) -> None:
        """Any node is asked next: that one may have been taken out of the cluster."""
        with self._lock:
            if self._home == address:
                self._home = None

    def connected(self, address: Address, answer: Any) -> None:
        """Learn the other nodes: those in the URL may not live as long as we do.

        All connections go to one node, whether or not it is the right one: it will say so. Else
        one would load a script where another does not run it.
        """
        if isinstance(answer, ResponseError):
            raise ResponseError(
                f"{shown(address)}: {answer}; is it a node of a cluster? (otherwise write redis://)"
            ) from answer
        found = {
            # An endpoint that a node does not know is where we reached it.
            (_text(host) or address[0], int(port))
            for _, _, *nodes in answer
            for host, port, *_ in nodes
        }
        with self._lock:
            self._others = sorted(found - set(self._seeds))
            self._home = self._home or address


def misdirected(whereabouts: Whereabouts, here: Address, error: ResponseError) -> Exception | None:
    """What to raise of a reply of a server that is not the right one any more; else None.

    Its connection is to be ended.
    """
    if isinstance(error, MovedError):
        there = (error.host or here[0], error.port)
        if whereabouts.moved(there):
            return Redirected(f"{shown(here)} says: {shown(there)} has the keys")
    # In a script the reply is wrapped, and its code may stand anywhere.
    readonly = isinstance(error, ReadOnlyError) or "READONLY" in str(error)
    if readonly or isinstance(error, ClusterDownError):
        whereabouts.left(here)
        return Unserved(f"{shown(here)}: {error}")
    return None


class FollowingConnection(BoundedReplies, Connection):
    """A connection to wherever the server is by now. Owned by one thread at a time."""

    def __init__(self, *, whereabouts: Whereabouts, **options: Any) -> None:
        self._whereabouts = whereabouts
        super().__init__(**options)

    def connect(self) -> None:
        """Connect, unless it is connected to the right server already."""
        if self.is_connected and self._whereabouts.stale((self.host, self.port)):
            self.disconnect()
        super().connect()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and learn what a new connection can tell."""
        super().on_connect_check_health(check_health)
        answer: Any = None
        if self._whereabouts.question:
            try:
                # Not before it is answered may anything else be sent, a health check least of all.
                self.send_command(*self._whereabouts.question, check_health=False)
                answer = self.read_response()
            except ResponseError as error:
                answer = error
        self._whereabouts.connected((self.host, self.port), answer)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """A reply; one of a server that is not the right one any more ends the connection."""
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            wrong = misdirected(self._whereabouts, (self.host, self.port), error)
            if wrong is None:
                raise
            self.disconnect()
            raise wrong from error

    def _connect(self) -> Any:
        fault: OSError | None = None
        for host, port in self._whereabouts.candidates():
            self.host, self.port = host, port
            try:
                return super()._connect()
            except OSError as error:
                fault = error
        raise fault or OSError("no server is known")


class FollowingTlsConnection(FollowingConnection, SSLConnection):
    """The same over TLS."""


def shown(address: Address) -> str:
    """An address as people write it."""
    return f"{address[0]}:{address[1]}"


def _text(value: Any) -> str:
    """A host as CLUSTER SLOTS names it; empty where the node does not know its own."""
    host = value.decode() if isinstance(value, bytes) else str(value or "")
    return "" if host == "?" else host
