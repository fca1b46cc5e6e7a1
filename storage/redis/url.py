"""`EMO_REDIS_URL`: which servers it names, and how they are to be spoken to.

    redis://[user:password@]host[:port][/db]             rediss://… for TLS
    unix:///path/to/redis.sock[?db=0]
    redis+sentinel://[user:password@]host[:port],…/MASTER[/db]     rediss+sentinel://…
    redis+cluster://[user:password@]host[:port],…        rediss+cluster://…

No message quotes anything of the URL: in a wrong one, a password may stand anywhere.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

Address = tuple[str, int]

_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_HIGHEST_PORT = 65535
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:@,]+)(?::(?P<port>\d+))?")
_HASH_TAGGED = re.compile(r"[^{]*\{[^}]+\}")
_ESCAPES = "write / @ : ? # in a user's name or password as %2F %40 %3A %3F %23"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(StrEnum):
    """What stands behind the URL."""

    SINGLE = "redis"
    UNIX = "unix"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


# TLS forms have an s: `rediss+cluster`.
_SCHEMES = {
    **{kind.value: (kind, False) for kind in Kind},
    **{kind.replace("redis", "rediss"): (kind, True) for kind in Kind if kind is not Kind.UNIX},
}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL, understood. `options` go to redis-py's connections, by its names."""

    kind: Kind
    nodes: tuple[Address, ...]
    tls: bool
    master: str = ""  # what the sentinels call it
    path: str = ""  # of the unix socket
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_redis_url(url: str) -> RedisUrl:
    """Understand EMO_REDIS_URL. Raises ValueError with what to change."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError("an IPv6 address stands in brackets: [::1]:6379") from error
    if parts.scheme not in _SCHEMES or "://" not in url:
        raise ValueError(
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    # What belongs to a password must not be taken for an option's name, and shown as one.
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError(_ESCAPES)
    kind, tls = _SCHEMES[parts.scheme]
    options = _options(parts.query, kind=kind, tls=tls)
    userinfo, _, hosts = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    options |= {"username": unquote(user)} if user else {}
    options |= {"password": unquote(password)} if password else {}
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in list(options)
        if name.startswith("sentinel_")
    }
    if kind is Kind.UNIX:
        path = unquote(parts.path)
        if hosts or not path.strip("/"):
            raise ValueError("write unix:///path/to/redis.sock, with three slashes")
        return RedisUrl(kind, (), tls, path=path, options=options)
    nodes = _nodes(hosts, _SENTINEL_PORT if kind is Kind.SENTINEL else _REDIS_PORT)
    if kind is Kind.SINGLE and len(nodes) > 1:
        raise ValueError("names several servers: write redis+sentinel:// or redis+cluster://")
    master, database = _path(parts, kind)
    if database:
        options.setdefault("db", database)
    if kind is Kind.CLUSTER and options.get("db"):
        raise ValueError("Redis Cluster has database 0 only; leave the number out")
    return RedisUrl(kind, nodes, tls, master, options=options, sentinel_options=sentinel_options)


def is_hash_tagged(prefix: str) -> bool:
    """Whether all keys under the prefix lie in one slot of a cluster."""
    return _HASH_TAGGED.match(prefix) is not None


def _nodes(hosts: str, default_port: int) -> tuple[Address, ...]:
    nodes = []
    for text in hosts.split(","):
        match = _NODE.fullmatch(text)
        port = int(match["port"] or default_port) if match else 0
        if match is None or not 0 < port <= _HIGHEST_PORT:
            raise ValueError(
                f"must name host:port, with commas between several, after any user:password@; "
                f"{_ESCAPES}"
            )
        nodes.append((unquote(match["host"].strip("[]")), port))
    return tuple(nodes)


def _path(parts: SplitResult, kind: Kind) -> tuple[str, int]:
    """The master's name, for Sentinel, and the number of the database."""
    names = [unquote(name) for name in parts.path.split("/")[1:]]
    if names and not names[-1]:
        names.pop()
    master = ""
    if kind is Kind.SENTINEL:
        if not names or not names[0]:
            raise ValueError("must end with the master's name: redis+sentinel://host:26379/MASTER")
        master = names.pop(0)
    if len(names) > 1 or (names and not re.fullmatch(r"\d{1,5}", names[0])):
        raise ValueError("what follows the last slash must be the number of a database")
    return master, int(names[0]) if names else 0


def _text(value: str) -> str:
    return value


def _number(value: str) -> int:
    if not re.fullmatch(r"\d{1,5}", value):
        raise ValueError("must be a number")
    return int(value)


def _truth(value: str) -> bool:
    if value.lower() not in _TRUTHS:
        raise ValueError("must be true or false")
    return _TRUTHS[value.lower()]


def _file(value: str) -> str:
    if not Path(value).is_file():
        raise ValueError("there is no such file")
    return value


def _requirement(value: str) -> str:
    if value not in ("required", "none"):
        raise ValueError("must be required or none")
    return value


# The query options there are; the others of redis-py are set by the programs.
_EVERYWHERE: dict[str, Callable[[str], Any]] = {
    "db": _number,
    "username": _text,
    "password": _text,
}
_WITH_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
    "ssl_check_hostname": _truth,
    "ssl_cert_reqs": _requirement,
}
_WITH_SENTINEL: dict[str, Callable[[str], Any]] = {
    "sentinel_username": _text,
    "sentinel_password": _text,
}


def _unknown_option(name: str, known: Iterable[str]) -> str:
    """What to say of an option, but for its name: that may be the rest of a password."""
    meant = get_close_matches(name, known, n=1)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    return f"sets an option that is none of {', '.join(known)}{hint}"


def _options(query: str, *, kind: Kind, tls: bool) -> dict[str, Any]:
    known = dict(_EVERYWHERE)
    if tls:
        known |= _WITH_TLS
    if kind is Kind.SENTINEL:
        known |= _WITH_SENTINEL
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _WITH_TLS and not tls:
            raise ValueError(f"{name} is for TLS: begin with {kind.replace('redis', 'rediss')}://")
        if name not in known:
            raise ValueError(_unknown_option(name, known))
        try:
            options[name] = known[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return options
