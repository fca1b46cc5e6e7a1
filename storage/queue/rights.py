"""What the user of a connection may not do, of all that a worker does: found by trying.

ACL DRYRUN would tell, and is for administrators. But a server looks at a user's rights before it
does anything, so each command is sent in a form that does nothing: on keys that are not there, for
groups that are not there, with an id that no entry can have.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from storage.redis.connection import Client
from storage.wire.messages import Keys

_NO_ID, _NO_SCRIPT, _GROUP, _MEMBER = "0-0", "0" * 40, "emostream-doctor", "emostream-doctor"
_LIFE_MILLISECONDS = 10_000
_IN_SCRIPT = re.compile(r"ACL failure in script|user executing the script can't")  # and before 7.2
_OF_A_KEY = re.compile(r"access (?:a|one of the) key")
_Command = tuple[Any, ...]


class Lacking(NamedTuple):
    """Commands, as ACL files name them, and keys that the user may not use as a worker does."""

    commands: list[str]
    keys: list[str]


def is_refused(error: Exception) -> bool:
    """Whether the user of a connection may not do what was asked; not even connect, perhaps."""
    in_script = isinstance(error, ResponseError) and _IN_SCRIPT.search(str(error))
    return isinstance(error, NoPermissionError) or bool(in_script)


def harmless(key: str) -> dict[str, _Command]:
    """Each command in a form that does nothing, where there is no such key; by its name in ACLs."""
    return {
        "del": ("DEL", key),
        "evalsha": ("EVALSHA", _NO_SCRIPT, 0),
        "exists": ("EXISTS", key),
        "hdel": ("HDEL", key, "field"),
        "hexists": ("HEXISTS", key, "field"),
        "hget": ("HGET", key, "field"),
        "hgetall": ("HGETALL", key),
        "hkeys": ("HKEYS", key),
        "hmget": ("HMGET", key, "field"),
        "hset": ("HSET", key, "field", "value", "field without a value"),
        "info": ("INFO", "server"),
        "lrem": ("LREM", key, 1, _MEMBER),
        "ltrim": ("LTRIM", key, 0, -1),
        "persist": ("PERSIST", key),
        "pexpire": ("PEXPIRE", key, _LIFE_MILLISECONDS),
        "ping": ("PING",),
        "rename": ("RENAME", key, key),
        "script|exists": ("SCRIPT", "EXISTS", _NO_SCRIPT),
        "script|load": ("SCRIPT", "LOAD", "this is no Lua"),
        "time": ("TIME",),
        "type": ("TYPE", key),
        "xack": ("XACK", key, _GROUP, "0-1"),
        "xadd": ("XADD", key, "NOMKSTREAM", _NO_ID, "field", "value"),
        "xclaim": ("XCLAIM", key, _GROUP, _MEMBER, 0, "0-1"),
        "xdel": ("XDEL", key, "0-1"),
        "xgroup|create": ("XGROUP", "CREATE", key, _GROUP, 0),
        "xgroup|delconsumer": ("XGROUP", "DELCONSUMER", key, _GROUP, _MEMBER),
        "xinfo|consumers": ("XINFO", "CONSUMERS", key, _GROUP),
        "xinfo|groups": ("XINFO", "GROUPS", key),
        "xinfo|stream": ("XINFO", "STREAM", key),
        "xlen": ("XLEN", key),
        "xpending": ("XPENDING", key, _GROUP),
        "xrange": ("XRANGE", key, "-", "+", "COUNT", 1),
        "xreadgroup": (
            *("XREADGROUP", "GROUP", _GROUP, _MEMBER, "COUNT", 1),
            *("STREAMS", key, ">"),
        ),
        "zadd": ("ZADD", key, "XX", 1, _MEMBER),
        "zrangebyscore": ("ZRANGEBYSCORE", key, 0, 0),
        "zrem": ("ZREM", key, _MEMBER),
        "zremrangebyscore": ("ZREMRANGEBYSCORE", key, 0, 0),
    }


def writing(key: str) -> dict[str, _Command]:
    """What has no such form: each would make the key, which is deleted again."""
    return {
        "hsetnx": ("HSETNX", key, "field", "value"),
        "lpush": ("LPUSH", key, "value"),
        "sadd": ("SADD", key, "value"),
    }


def touching(keys: Keys, name: str) -> dict[str, _Command]:
    """Each key that a worker uses, by a command of that use that changes nothing there."""
    streams = {
        key: ("XADD", key, "NOMKSTREAM", _NO_ID, "field", "value")
        for key in (*keys.lanes, keys.results, keys.dead, keys.batches)
    }
    hashes = [keys.result(name), keys.batch(name), keys.failures(name), keys.worker(name)]
    return {
        **streams,
        keys.delayed: ("ZREM", keys.delayed, _MEMBER),
        keys.workers: ("ZREM", keys.workers, _MEMBER),
        keys.healed: ("HDEL", keys.healed, _MEMBER),
        keys.paused: ("HGETALL", keys.paused),
        **{key.replace(name, "*"): ("DEL", key) for key in hashes},
    }


def lacking(client: Client, keys: Keys) -> Lacking:
    """What the client's user may not.

    Raises RedisError where the server is away, or the user may not even name its connection.
    """
    pool = client.connection_pool
    pool.release(pool.get_connection())  # which fails where it may not be named
    name = f"doctor-{secrets.token_hex(8)}"  # nobody's job, and nobody's batch
    key = keys.result(name)
    commands = list(_refused(client, harmless(key)))
    if not {"del", "pexpire"} & set(commands):  # or it would stay
        for each, command in writing(key).items():
            commands += _refused(client, {each: command})
            _try(client, ("PEXPIRE", key, _LIFE_MILLISECONDS))  # should we end here
            _try(client, ("DEL", key))
    return Lacking(sorted(commands), list(_denied(client, touching(keys, name))))


def _refused(client: Client, commands: dict[str, _Command]) -> Iterator[str]:
    """Those that may not be run at all; one that is refused for its key may be."""
    for name, command in commands.items():
        error = _try(client, command)
        if error and not _OF_A_KEY.search(str(error)):
            yield name


def _denied(client: Client, commands: dict[str, _Command]) -> Iterator[str]:
    """The keys that may not be written to."""
    for key, command in commands.items():
        error = _try(client, command)
        if error and _OF_A_KEY.search(str(error)):
            yield key


def _try(client: Any, command: _Command) -> NoPermissionError | None:
    try:
        client.execute_command(*command)
    except NoPermissionError as error:
        return error
    except ResponseError:
        pass  # as it was to be: it may be run, and does nothing
    return None
