"""Redis behind a sentinel: a master, its replica, and what workers do when they change places."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from storage.queue.entries import Outcome
from storage.redis import connection
from storage.redis.connection import RedisError, UnfitServer, check_server, connect, is_outage
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Lane
from tests.support.intake_host import KEYS, Host
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port
from tests.support.redis_servers import SERVERS, Sentinel, binary
from tests.support.stream_workers import DONE, begin_one

FAILOVER_SECONDS = 120.0  # a sentinel that was itself stopped trusts no clock for 30


class Pair:
    """A master and its replica, and the sentinel that watches them."""

    def __init__(self, directory: Path, program: Path) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")
        self.master = EmbeddedRedis(directory / "master", binary=program, options=at_once)
        self.replica = EmbeddedRedis(
            directory / "replica",
            binary=program,
            options=(*at_once, "--replicaof", "127.0.0.1", str(self.master.port)),
        )
        self.program = program
        self.sentinel = Sentinel(directory, program, self.master)
        self.url = self.sentinel.url

    def replicated(self, client: Any) -> None:
        """Wait until the replica has all that was written."""
        until(lambda: client.execute_command("WAIT", 1, 1000) == 1)

    def promoted(self) -> bool:
        """Whether the replica is the master now."""
        with connect(
            self.replica.url, name="test-replica", timeout_seconds=TIMEOUT_SECONDS
        ) as client:
            try:
                return bool(client.info("replication")["role"] == "master")
            except RedisError:  # it hangs up on everybody when it changes its role
                return False


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentinel that stands still with its machine is not away."""
    monkeypatch.setattr(connection, "_SENTINEL_TIMEOUT_SECONDS", TIMEOUT_SECONDS)


@pytest.fixture(params=SERVERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A pair that is ready to fail over."""
    with ExitStack() as running:
        pair = Pair(tmp_path, binary(request.param))
        for server in (pair.master, pair.replica):
            server.start()
            running.callback(server.kill)
        running.enter_context(pair.sentinel)
        until(pair.sentinel.knows_replica, FAILOVER_SECONDS)
        yield pair


def test_work_goes_on_after_a_failover(pair: Pair) -> None:
    """Given a master that dies with a job in flight, the job is settled, and new ones are taken."""
    host = Host(pair.url)
    try:
        check_server(host.client, KEYS.prefix)
        host.add("first")
        host.intake.start()
        until(lambda: host.room.jobs == ["first"])
        pair.replicated(host.client)
        pair.sentinel.be_impatient()
        pair.master.kill()
        until(pair.promoted, FAILOVER_SECONDS)
        until(lambda: added(host, "second"), FAILOVER_SECONDS)
        until(lambda: host.room.jobs == ["first", "second"], FAILOVER_SECONDS)
        begun = [task.ticket for task in host.room.tasks]
        assert host.streams.heartbeat([(each.delivery, each.job_id) for each in begun]) == []
        outcomes = host.streams.finish([(each, DONE) for each in begun])
        assert outcomes == [Outcome.SETTLED] * 2
    finally:
        host.close()


def test_a_master_that_is_demoted_under_our_feet_is_left(pair: Pair) -> None:
    """Given a demotion that cuts no connection, a script that cannot write ends it: none is stuck.

    A sentinel hangs up on the clients of a master that it demotes; an operator does not.
    """
    host = Host(pair.url)
    try:
        host.add("job")
        begun = begin_one(host.streams)
        pair.replicated(host.client)
        with (
            connect(pair.master.url, name="test-old", timeout_seconds=TIMEOUT_SECONDS) as old,
            connect(pair.replica.url, name="test-new", timeout_seconds=TIMEOUT_SECONDS) as new,
        ):
            new.execute_command("REPLICAOF", "NO", "ONE")
            old.execute_command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
        with pytest.raises(RedisError) as refused:
            host.streams.finish([(begun, DONE)])
        assert isinstance(refused.value, ConnectionError)
        assert is_outage(refused.value)
        (left,) = host.client.connection_pool._available_connections
        assert not left.is_connected
    finally:
        host.close()


def test_a_group_that_was_not_replicated_is_made_again(pair: Pair) -> None:
    """Given a replica that lacks the group, the intake makes it at 0: every job there is read."""
    host = Host(pair.url)
    try:
        host.intake.start()
        with connect(
            pair.replica.url, name="test-replica", timeout_seconds=TIMEOUT_SECONDS
        ) as replica:
            replica.execute_command("REPLICAOF", "NO", "ONE")
            replica.flushall()
        pair.master.kill()
        with connect(
            pair.replica.url, name="test-replica", timeout_seconds=TIMEOUT_SECONDS
        ) as replica:
            replica.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": "lonely"})
        point_at(pair.sentinel, pair.replica.port)
        until(lambda: host.room.jobs == ["lonely"], FAILOVER_SECONDS)
    finally:
        host.close()


def test_a_sentinel_must_be_named_as_one(pair: Pair) -> None:
    """A sentinel is no server, and a master that it does not know cannot be found."""
    address = f"127.0.0.1:{pair.sentinel.port}"
    with (
        connect(f"redis://{address}", name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
        pytest.raises(UnfitServer, match=r"write redis\+sentinel://"),
    ):
        check_server(client, "emo")
    with (
        connect(
            f"redis+sentinel://{address}/other", name="test", timeout_seconds=TIMEOUT_SECONDS
        ) as client,
        pytest.raises(ConnectionError, match="no sentinel names the master other"),
    ):
        client.ping()


def test_sentinels_that_are_away_are_passed_over(pair: Pair) -> None:
    """The next one is asked; where none answers, that is an outage."""
    here = f"127.0.0.1:{pair.sentinel.port}/{Sentinel.MASTER}"
    with connect(
        f"redis+sentinel://127.0.0.1:1,{here}", name="test", timeout_seconds=TIMEOUT_SECONDS
    ) as client:
        assert client.info("server")["process_id"] == pair.master.pid
    with (
        connect(
            f"redis+sentinel://127.0.0.1:1/{Sentinel.MASTER}",
            name="test",
            timeout_seconds=TIMEOUT_SECONDS,
        ) as client,
        pytest.raises(RedisError) as refused,
    ):
        client.ping()
    assert is_outage(refused.value)


@pytest.fixture
def stale(pair: Pair, tmp_path: Path) -> Iterator[Sentinel]:
    """A second sentinel, to be told something that is not so any more."""
    directory = tmp_path / "stale"
    directory.mkdir()
    with Sentinel(directory, pair.program, pair.master) as sentinel:
        until(sentinel.knows_replica, FAILOVER_SECONDS)
        yield sentinel


def stale_first(stale: Sentinel, pair: Pair) -> str:
    """EMO_REDIS_URL with both sentinels."""
    nodes = f"127.0.0.1:{stale.port},127.0.0.1:{pair.sentinel.port}"
    return f"redis+sentinel://{nodes}/{Sentinel.MASTER}"


def test_a_stale_sentinel_hides_no_other(pair: Pair, stale: Sentinel) -> None:
    """Given one that names a master that is gone, the others are asked, and first from then on."""
    gone = own_port()
    point_at(stale, gone)
    with connect(stale_first(stale, pair), name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        whereabouts = client.connection_pool.connection_kwargs["whereabouts"]
        here = ("127.0.0.1", pair.master.port)
        assert list(whereabouts.candidates()) == [("127.0.0.1", gone), here]
        assert client.info("server")["process_id"] == pair.master.pid
        assert list(whereabouts.candidates()) == [here, ("127.0.0.1", gone)]


def test_a_sentinel_that_names_a_demoted_master_is_asked_last(pair: Pair, stale: Sentinel) -> None:
    """Given an old master that still answers, its first refusal leads to the new one."""
    with (
        connect(pair.master.url, name="test-old", timeout_seconds=TIMEOUT_SECONDS) as old,
        connect(pair.replica.url, name="test-new", timeout_seconds=TIMEOUT_SECONDS) as new,
    ):
        new.execute_command("REPLICAOF", "NO", "ONE")
        old.execute_command("REPLICAOF", "127.0.0.1", str(pair.replica.port))
    point_at(pair.sentinel, pair.replica.port)
    point_at(stale, pair.master.port)
    with connect(stale_first(stale, pair), name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        with pytest.raises(RedisError) as refused:
            client.set("a", "1")
        assert is_outage(refused.value)
        assert client.set("a", "1")
        assert client.info("server")["process_id"] == pair.replica.pid


def added(host: Host, job: str) -> bool:
    """Enqueue, where Redis can be reached."""
    try:
        host.add(job)
    except RedisError as error:
        assert is_outage(error)
        return False
    return True


def point_at(sentinel: Sentinel, port: int) -> None:
    """Tell the sentinel that its master is there now."""
    with connect(
        f"redis://127.0.0.1:{sentinel.port}", name="test-sentinel", timeout_seconds=TIMEOUT_SECONDS
    ) as client:
        client.execute_command("SENTINEL", "REMOVE", Sentinel.MASTER)
        client.execute_command("SENTINEL", "MONITOR", Sentinel.MASTER, "127.0.0.1", str(port), "1")
