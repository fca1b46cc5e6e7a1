"""Entries that are too large to be read: each ends by its id, and nobody reads it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.connection import ConnectionPool

from storage.queue.cancellation import Cancellations
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.lanes import Lanes
from storage.queue.reader import MAX_ENTRY_BYTES, MAX_ENTRY_FIELDS
from storage.queue.submission import Submissions
from storage.redis.bounds import MAX_REPLY_BYTES, MAX_REPLY_PARTS, ReplyTooLarge
from storage.redis.connection import RedisError, connect
from storage.redis.embedded import EmbeddedRedis
from storage.redis.failover import Fixed, FollowingConnection
from storage.wire.messages import Keys, Lane
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.stream_workers import DONE, Worker, begin_one, result

ADD = "return redis.call('XADD', KEYS[1], '*', 'key', 'a', 'big', string.rep('x', ARGV[1]))"
REPEAT = """
local fields = {}
for i = 1, 3000 do fields[2 * i - 1], fields[2 * i] = 'key', 'a.wav' end
return redis.call('XADD', KEYS[1], '*', unpack(fields))
"""
NOTHING = b""


def add_of(size: int) -> Callable[[Any, str], str]:
    """Add an entry of so many bytes, which the server makes itself."""
    return lambda client, stream: client.eval(ADD, 1, stream, size).decode()


def add_repeated(client: Any, stream: str) -> str:
    """Add one whose names are all the same: as a mapping, it is a small job."""
    return str(client.eval(REPEAT, 1, stream).decode())


def add_parts(client: Any, stream: str) -> str:
    """Add one of more parts than a reply may have."""
    pairs = [b"key", b"a.wav"] * (MAX_REPLY_PARTS // 2 + 1)
    return str(client.execute_command("XADD", stream, "*", *pairs).decode())


OVERSIZED = {
    "refused": add_of(MAX_REPLY_BYTES + 1),
    "too-long": add_of(MAX_ENTRY_BYTES + 1),
    "repeated": add_repeated,
    "in-parts": add_parts,
}

oversized = pytest.mark.parametrize("add", OVERSIZED.values(), ids=OVERSIZED)


@contextmanager
def watched(redis_server: EmbeddedRedis) -> Iterator[list[str]]:
    """What scripts ask of the server meanwhile."""
    seen: list[str] = []
    with (
        redis.Redis.from_url(redis_server.url, socket_timeout=TIMEOUT_SECONDS) as watching,
        redis.Redis.from_url(redis_server.url, socket_timeout=TIMEOUT_SECONDS) as ending,
        watching.monitor() as monitor,
    ):

        def listen() -> None:
            for command in monitor.listen():
                if command["command"] == "PING":
                    return
                if command["client_type"] == "lua":
                    seen.append(command["command"])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            ending.ping()
            thread.join()


@oversized
def test_a_worker_ends_it_and_reads_its_neighbours(
    add: Callable[[Any, str], str], client: Any, redis_server: EmbeddedRedis, worker: Worker
) -> None:
    """Whether its reply is refused or not; the entries beside it are delivered."""
    one = worker("one", 60)
    before = client.xadd("emo:jobs", {"key": "a.wav"}).decode()
    entry = add(client, "emo:jobs")
    after = client.xadd("emo:jobs", {"key": "b.wav"}).decode()
    with watched(redis_server) as seen:
        try:
            found = one.read(10)
        except ReplyTooLarge:
            found = one.recover(lambda lane, entry: False, 10)
        found += one.read(10)  # the share of its lane ended there
        assert [(each.entry, each.oversized) for each in found] == [
            (before, False),
            (entry, True),
            (after, False),
        ]
        assert one.refuse(found[1:2]) == 1
        assert one.refuse(found[1:2]) == 0
    assert not [line for line in seen if line.startswith("XRANGE")]
    ended = result(client, entry)
    assert (ended["status"], ended["error_code"]) == ("failed", "invalid_job")
    assert client.xlen("emo:jobs") == 2
    ((_, event),) = client.xrange("emo:results")
    assert event[b"job"] == entry.encode()
    assert [begun.verdict.value for begun in one.begin([found[0], found[2]])] == ["RUN", "RUN"]


@oversized
def test_one_that_killed_its_reader_is_ended_by_the_next(
    add: Callable[[Any, str], str], client: Any, redis_server: EmbeddedRedis, worker: Worker
) -> None:
    """Its lease runs out, and whoever looks at it knows before any script does."""
    stream = "emo:jobs:bulk"
    client.xadd(stream, {"key": "a.wav"})
    entry = add(client, stream)
    client.xadd(stream, {"key": "b.wav"})
    worker()
    with redis.Redis.from_url(redis_server.url, socket_timeout=TIMEOUT_SECONDS) as careless:
        careless.xreadgroup("workers", "one", {stream: ">"})
    two = worker("two")
    with watched(redis_server) as seen:
        found = until(lambda: [f for f in [two.reclaim(10)] if f.refused])[0]
    assert [each.fields[b"key"] for each in found.deliveries] == [b"a.wav", b"b.wav"]
    assert not [line for line in seen if line.startswith("XRANGE") and entry in line]
    assert result(client, f"bulk-{entry}")["error_code"] == "invalid_job"
    assert client.xpending(stream, "workers")["pending"] == 2


def test_one_that_is_as_large_as_may_be_is_read(client: Any, worker: Worker) -> None:
    """It fails for its size alone, under the id that it was given."""
    client.eval(ADD, 1, "emo:jobs", MAX_ENTRY_BYTES - 10)
    (found,) = worker("one").read(1)
    assert not found.oversized
    assert len(found.fields[b"big"]) == MAX_ENTRY_BYTES - 10
    assert MAX_ENTRY_FIELDS > 1000


LARGEST = {
    "fields": {"key": "a.wav", "job": "x", **{f"_{n}": "" for n in range(MAX_ENTRY_FIELDS - 2)}},
    "bytes": {"key": "a.wav", "job": "x", "_": "x" * (MAX_ENTRY_BYTES - 13)},
    "job": {"key": "a.wav", "job": "x", "big": "x" * (1024**2 - 15)},
}


@pytest.mark.parametrize("fields", LARGEST.values(), ids=LARGEST)
def test_one_that_is_as_large_as_may_be_comes_back_after_a_retry(
    fields: dict[str, str], client: Any, worker: Worker
) -> None:
    """What we add to it does not make it oversized: nobody would know whose end that is."""
    streams = worker("one", 60)
    client.xadd("emo:jobs", fields)
    streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="again")
    streams.promote()
    (again,) = streams.read(1)
    assert not again.oversized
    (begun,) = streams.begin([again])
    assert (begun.job_id, begun.attempts) == ("x", 2)
    assert again.fields.get(b"big", b"").decode() == fields.get("big", "")


@oversized
@pytest.mark.parametrize("stream", ["emo:jobs", "emo:jobs:bulk"])
def test_whoever_asks_for_one_does_not_have_it_read(
    add: Callable[[Any, str], str],
    stream: str,
    client: Any,
    keys: Keys,
    redis_server: EmbeddedRedis,
) -> None:
    """It is queued until a worker ends it, or somebody cancels it by its id."""
    job = {"emo:jobs": "", "emo:jobs:bulk": "bulk-"}[stream] + add(client, stream)
    submissions = Submissions(client, keys=keys, max_backlog=100)
    cancellations = Cancellations(client, keys=keys, result_ttl_seconds=60, results_maxlen=9)
    with watched(redis_server) as seen:
        assert submissions.status(job) == {"status": "queued"}
        assert {state.queued for state in Lanes(client, keys=keys).look().lanes} == {0, 1}
        assert cancellations.cancel(job).verdict is Cancel.CANCELLED
    assert not [line for line in seen if line.startswith("XRANGE")]
    assert client.xlen(stream) == 0
    assert result(client, job)["status"] == "cancelled"


def test_an_event_that_is_oversized_stops_nobody_who_waits(
    client: Any, keys: Keys, worker: Worker
) -> None:
    """Neither the newest that is there, nor one that comes: a hint is passed over."""
    told: list[tuple[str, dict[str, str]]] = []
    one = worker("one", 60)
    submissions = Submissions(client, keys=keys, max_backlog=10)
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    OVERSIZED["refused"](client, "emo:results")
    waiting = threading.Thread(
        target=lambda: told.extend(submissions.wait(["x"], timeout_seconds=60)), daemon=True
    )
    waiting.start()
    until(lambda: client.info("clients")["blocked_clients"] or not waiting.is_alive())
    OVERSIZED["in-parts"](client, "emo:results")
    one.finish([(begin_one(one), DONE)])
    waiting.join(60)
    assert [job for job, _ in told] == ["x"]


def test_what_is_held_is_not_recovered(client: Any, worker: Worker) -> None:
    """Nor what is another's: only what was given to us and never came, in any lane."""
    one, two = worker("one", 60), worker("two", 60)
    held = begin_one_of(client, one, "emo:jobs")
    begin_one_of(client, two, "emo:jobs")
    lost = [client.xadd(stream, {"key": "c.wav"}).decode() for stream in one.keys.lanes]
    one.read(10)
    found = one.recover(lambda lane, entry: (lane, entry) == (Lane.NORMAL, held), 10)
    assert sorted(each.entry for each in found) == sorted(lost)
    assert {each.count for each in found} == {1}
    assert len(one.recover(lambda lane, entry: False, 2)) == 2


def begin_one_of(client: Any, streams: Any, stream: str) -> str:
    """Add an entry, and let that worker begin it."""
    client.xadd(stream, {"key": "a.wav"})
    return begin_one(streams).delivery.entry


def test_many_are_read_beside_one_that_is_refused(client: Any, worker: Worker) -> None:
    """It is asked for twice, however many stand around it."""
    one = worker("one", 60)
    expected = [client.xadd("emo:jobs", {"key": "a.wav"}).decode() for _ in range(150)]
    bad = OVERSIZED["refused"](client, "emo:jobs")
    expected += [bad, *(client.xadd("emo:jobs", {"key": "a.wav"}).decode() for _ in range(150))]
    client.xdel("emo:jobs", expected[3])
    with pytest.raises(ReplyTooLarge):
        one.read(1000)
    client.config_resetstat()
    found = one.recover(lambda lane, entry: False, 1000)
    assert [each.entry for each in found] == [*expected[:3], *expected[4:]]
    assert [each.entry for each in found if each.oversized] == [bad]
    assert client.info("commandstats")["cmdstat_xrange"]["calls"] < 80


def test_no_reply_of_any_command_is_larger(redis_server: EmbeddedRedis, client: Any) -> None:
    """A value, a list, a stream: the connection is closed, and the next command has a new one."""
    client.set("large", b"x" * (MAX_REPLY_BYTES + 1))
    client.rpush("long", *([NOTHING] * (MAX_REPLY_PARTS + 1)))
    for protocol in (2, 3):
        pool = ConnectionPool(
            FollowingConnection,
            whereabouts=Fixed(("127.0.0.1", redis_server.port)),
            protocol=protocol,
            socket_timeout=TIMEOUT_SECONDS,
        )
        with redis.Redis.from_pool(pool) as bounded:
            for command in (("GET", "large"), ("LRANGE", "long", 0, -1)):
                with pytest.raises(ReplyTooLarge):
                    bounded.execute_command(*command)
                assert bounded.ping()
            assert len(bounded.getrange("large", 0, MAX_REPLY_BYTES - 100)) > MAX_REPLY_BYTES - 200


def test_a_server_can_refuse_a_large_value_itself(client: Any, redis_server: EmbeddedRedis) -> None:
    """With the limit that the Compose file sets; a job of the largest size is taken."""
    usual = client.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
    client.config_set("proto-max-bulk-len", "1mb")
    try:
        # On a connection of its own, which the server closes.
        with (
            connect(redis_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as sending,
            pytest.raises(RedisError),
        ):
            sending.xadd("emo:jobs", {"key": "x" * (1024**2 + 1)})
        assert client.xlen("emo:jobs") == 0
        client.xadd("emo:jobs", {"key": "a.wav", "big": "x" * 1_000_000})
    finally:
        client.config_set("proto-max-bulk-len", usual)
