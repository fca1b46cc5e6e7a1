"""deploy/redis/*.acl on real servers: what is refused to each user, and to everybody else."""

import re
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from storage.queue.entries import Outcome
from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError, connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.acl import (
    ACL_FILE,
    CONTROL,
    KEYS,
    MONITOR,
    OPERATOR,
    PRODUCER,
    READER,
    SELECTORS_FILE,
    USERS,
    WORKER,
    Users,
)
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.stream_workers import DONE, begin_one

# In a script, in the words of each server.
FORBIDDEN = r"permission|can't run this command|can't access at least one of the keys"
FOR_ALL = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN",),
    ("BGREWRITEAOF",),
    ("MONITOR",),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("REPLICAOF", "NO", "ONE"),
    ("XTRIM", "emo:jobs", "MAXLEN", "0"),
    ("XGROUP", "DESTROY", "emo:jobs", "workers"),
    ("XGROUP", "SETID", "emo:jobs", "workers", "$"),
    ("RENAME", "emo:jobs", "gone"),
    ("SET", "emo:x", "1"),
    ("HGETALL", "other:result:job"),
]
NOT_FOR_READERS = [
    ("HGETALL", "emo:delayed:job"),
    ("HSET", "emo:result:job", "status", "done"),
    ("DEL", "emo:result:job"),
    ("EVAL", "return 1", "0"),
    ("XADD", "emo:jobs", "*", "key", "a.wav"),
    ("XRANGE", "emo:jobs", "-", "+"),
]
NOT_FOR_PRODUCERS = [
    ("XADD", "other:jobs", "*", "key", "a.wav"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "emo:jobs", ">"),
    ("XCLAIM", "emo:jobs", "workers", "me", "0", "1-1"),
    ("XACK", "emo:jobs", "workers", "1-1"),
    ("XDEL", "emo:jobs", "1-1"),
    ("XGROUP", "CREATE", "emo:jobs", "workers", "0"),
]
DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS = [
    ("DEL", "emo:dead"),
    ("XADD", "emo:dead", "*", "key", "a.wav"),
    ("XRANGE", "emo:dead", "-", "+"),
]
# What needs a right that `submit` has on other keys: told apart by selectors alone.
NOT_FOR_PRODUCERS_WITH_SELECTORS = [
    ("DEL", "emo:jobs"),
    ("DEL", "emo:jobs:high", "emo:result:job"),
    ("DEL", "emo:results"),
    ("DEL", "emo:delayed"),
    ("XADD", "emo:results", "*", "job", "job"),
    ("XREAD", "STREAMS", "emo:jobs", "0"),
    ("HSET", "emo:delayed:job", "key", "b.wav"),
]
NOT_FOR_OPERATORS = [command for command in NOT_FOR_PRODUCERS if command[0] not in ("XACK", "XDEL")]
NOT_FOR_MONITORS = [
    ("HSET", "emo:result:job", "status", "done"),
    ("DEL", "emo:result:job"),
    ("XADD", "emo:jobs", "*", "key", "a.wav"),
    ("ZREM", "emo:workers", "one"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "emo:jobs", ">"),
    ("XACK", "emo:jobs", "workers", "1-1"),
]
RQ_IS_NOT_FOR = [
    ("HSET", "rq:job:x", "data", "x"),
    ("HGETALL", "rq:job:x"),
    ("LPUSH", "rq:queue:emo", "x"),
]
# Control has webhooks from a group of a stream, and other streams with them but for selectors.
NOT_FOR_CONTROL_WITH_SELECTORS = [
    command
    for command in NOT_FOR_PRODUCERS
    if command[0] in ("XREADGROUP", "XCLAIM", "XACK", "XDEL", "XGROUP")
]
NOT_FOR_CONTROL = [
    *(command for command in NOT_FOR_PRODUCERS if command not in NOT_FOR_CONTROL_WITH_SELECTORS),
    *DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS,
    ("HSET", "emo:paused", "high", "1"),
    ("PUBLISH", "rq:pubsub:x", "{}"),
]
REFUSED = {
    MONITOR: FOR_ALL + NOT_FOR_MONITORS + RQ_IS_NOT_FOR,
    CONTROL: FOR_ALL + NOT_FOR_CONTROL,
    READER: FOR_ALL + NOT_FOR_READERS + RQ_IS_NOT_FOR,
    PRODUCER: FOR_ALL
    + NOT_FOR_PRODUCERS
    + DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS
    + RQ_IS_NOT_FOR
    + [("HSET", "emo:bulk:b", "status", "running")],
    OPERATOR: FOR_ALL + NOT_FOR_OPERATORS + RQ_IS_NOT_FOR,
    WORKER: [
        *FOR_ALL,
        *RQ_IS_NOT_FOR,
        ("HGETALL", "emoji:result:job"),
        ("XADD", "other", "*", "a", "1"),
    ],
}


@pytest.mark.parametrize("user", USERS)
def test_everything_else_is_refused(users: Users, user: str) -> None:
    """Commands of administrators, of the other users, and keys of others."""
    for command in REFUSED[user]:
        with pytest.raises(NoPermissionError):
            users[user].execute_command(*command)


def test_selectors_refuse_a_producer_more(guard: tuple[str, Path], users: Users) -> None:
    """Lanes are not deleted, and events not written: with the file for servers from 7.0 on."""
    for command in NOT_FOR_PRODUCERS_WITH_SELECTORS:
        if guard[1] == SELECTORS_FILE:
            with pytest.raises(NoPermissionError):
                users[PRODUCER].execute_command(*command)
        else:  # as docs/operations.md owns
            users[PRODUCER].execute_command(*command)


def test_selectors_refuse_control_more(guard: tuple[str, Path], users: Users) -> None:
    """It takes webhooks, and no jobs: with the file for servers from 7.0 on."""
    users["admin"].xgroup_create("emo:jobs", "workers", mkstream=True)
    users["admin"].xgroup_create("emo:jobs", "other")
    for command in NOT_FOR_CONTROL_WITH_SELECTORS:
        if guard[1] == SELECTORS_FILE:
            with pytest.raises(NoPermissionError):
                users[CONTROL].execute_command(*command)
        else:  # as docs/operations.md owns
            try:
                users[CONTROL].execute_command(*command)
            except ResponseError as error:
                assert "BUSYGROUP" in str(error)


def test_a_producer_cannot_end_a_workers_job(users: Users) -> None:
    """Though it may run scripts: what they call is checked against its own rights."""
    users[PRODUCER].xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": "job"})
    worker = users.streams()
    begun = begin_one(worker)
    impostor = JobStreams(
        users[PRODUCER],
        owner=worker.owner,
        keys=KEYS,
        lease_seconds=30,
        result_ttl_seconds=60,
        results_maxlen=9,
        max_crashes=2,
        max_job_bytes=32 * 1024,
    )
    (refused,) = impostor.finish([(begun, DONE)])
    assert isinstance(refused, ResponseError)
    assert re.search(FORBIDDEN, str(refused))
    with pytest.raises(RedisError, match=FORBIDDEN):
        impostor.retry(begun, delay_seconds=0, code="internal", message="x")
    assert worker.finish([(begun, DONE)]) == [Outcome.SETTLED]


def test_nobody_gets_in_without_a_password(guarded: EmbeddedRedis) -> None:
    """The default user is off; and what is said of a wrong password does not show it."""
    with (
        connect(guarded.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()
    with (
        connect(
            f"redis://{WORKER}:hush@127.0.0.1:{guarded.port}",
            name="test",
            timeout_seconds=TIMEOUT_SECONDS,
        ) as client,
        pytest.raises(AuthenticationError) as refused,
    ):
        client.ping()
    assert "hush" not in str(refused.value)


def test_the_file_is_refused_until_the_passwords_are_set(tmp_path: Path) -> None:
    """A placeholder that worked would be everybody's password."""
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    with (
        EmbeddedRedis(tmp_path, options=("--aclfile", str(file))) as server,
        connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
    ):
        file.write_text(ACL_FILE.read_text())
        with pytest.raises(ResponseError, match="hexadecimal"):
            client.acl_load()
