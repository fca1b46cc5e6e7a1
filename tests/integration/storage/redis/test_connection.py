"""How Redis is reached, which servers will do, and which errors mean to wait."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
import redis.exceptions
from redis.exceptions import RedisError, ResponseError

from storage.queue.entries import Delivery
from storage.redis.connection import (
    UnfitServer,
    check_server,
    connect,
    is_outage,
    stream_entries,
    uptime_seconds,
)
from storage.redis.embedded import EmbeddedRedis
from storage.settings import load
from storage.wire.messages import Lane
from tests.support.polling import until
from tests.support.redis_servers import SERVERS, binary
from worker.app import Worker
from worker.engine.engine import Engine
from worker.settings import WorkerSettings


class Said(redis.Redis):
    """A client of a server that says this of itself."""

    said: dict[str, str]

    def info(self, section: str | None = None, *args: str, **kwargs: Any) -> dict[str, str]:
        """INFO."""
        assert section == "server"
        return {"redis_version": "7.2.4", "redis_mode": "standalone", **self.said}


def check(prefix: str = "emo", url: str = "redis://host", **said: str) -> None:
    """Judge a server that is reached by that URL and says this of itself."""
    with connect(url, name="test") as client:
        asked = Said(connection_pool=client.connection_pool)
        asked.said = said
        check_server(asked, prefix)


@pytest.mark.parametrize("version", ["6.0.20", "5.0.14", "6.1.240", "0"])
def test_a_server_too_old_is_refused(version: str) -> None:
    """The message names both versions."""
    with pytest.raises(UnfitServer, match=f"Redis {version}; 6.2 or newer"):
        check(redis_version=version)


@pytest.mark.parametrize("version", ["6.2.0", "6.10.1", "7.0.0-rc1", "10.0.1", "255.255.255"])
def test_a_server_new_enough_will_do(version: str) -> None:
    """Versions are numbers, not text."""
    check(redis_version=version)


@pytest.mark.parametrize("prefix", ["emo", "{}", "e{}mo", "{}a}", "}emo{", "{emo"])
def test_a_cluster_needs_a_hash_tag(prefix: str) -> None:
    """Without one, the keys of a script would lie on different nodes."""
    with pytest.raises(UnfitServer, match="must be a hash tag"):
        check(prefix, "redis+cluster://host", redis_mode="cluster")
    check(prefix)


@pytest.mark.parametrize("prefix", ["{emo}", "a{emo}b", "{a}{b}", "{{a}"])
def test_a_hash_tag_will_do(prefix: str) -> None:
    """Wherever it is in the prefix."""
    check(prefix, "redis+cluster://host", redis_mode="cluster")


@pytest.mark.parametrize("mode", ["cluster", "sentinel"])
@pytest.mark.parametrize("field", ["redis_mode", "server_mode"])
def test_a_server_of_another_kind_is_refused(field: str, mode: str) -> None:
    """Redis and Valkey name the field differently; the message says how the URL begins."""
    said = {"redis_mode": "", field: mode}
    with pytest.raises(UnfitServer, match=rf"write redis\+{mode}://"):
        check("{emo}", **said)


def test_a_real_server_will_do(client: Any) -> None:
    """The one that the tests run on."""
    check_server(client, "emo")
    assert 0 <= uptime_seconds(client) < 86_400


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("reset"),
        redis.exceptions.TimeoutError("slow"),
        redis.exceptions.BusyLoadingError("LOADING"),
        redis.exceptions.OutOfMemoryError("command not allowed"),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ResponseError("OOM command not allowed. script: 1f, on @user_script:12."),
        ResponseError("Error running script: @user_script: 12: -OOM command not allowed"),
        ResponseError("CLUSTERDOWN The cluster is down"),
        ResponseError("MASTERDOWN Link with MASTER is down"),
        redis.exceptions.ClusterDownError("Hash slot not served"),
        redis.exceptions.MovedError("3999 127.0.0.1:6381"),
        redis.exceptions.AskError("3999 127.0.0.1:6381"),
        redis.exceptions.NoScriptError("No matching script. Please use EVAL."),
        redis.exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"),
        ResponseError("ERR Script attempted to access a non local key in a cluster node"),
    ],
)
def test_what_may_pass_is_an_outage(error: RedisError) -> None:
    """Wait, and try again."""
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.AuthenticationError("WRONGPASS"),
        redis.exceptions.NoPermissionError("NOPERM"),
        redis.exceptions.DataError("Invalid input"),
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("WRONGTYPE CHATROOM:results must be a stream but is a string"),
        ResponseError("NOGROUP No such key"),
    ],
)
def test_what_will_not_pass_by_itself_is_none(error: RedisError) -> None:
    """Somebody has to mend it."""
    assert not is_outage(error)


@pytest.fixture(scope="module", params=SERVERS)
def small_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A server of its own, to be filled and demoted."""
    directory = tmp_path_factory.mktemp("small")
    with EmbeddedRedis(directory, binary=binary(request.param)) as server:
        yield server


def error_of(client: Any, *, script: bool) -> RedisError:
    """What a write is refused with, by itself or in a script."""
    with pytest.raises(RedisError) as refused:
        if script:
            client.eval("return redis.call('XADD', KEYS[1], '*', 'a', '1')", 1, "x")
        else:
            client.xadd("x", {"a": "1"})
    return refused.value


@pytest.mark.parametrize("script", [False, True])
def test_a_server_that_cannot_write_now_is_an_outage(
    small_server: EmbeddedRedis, script: bool
) -> None:
    """Full, or a replica, in every server's words; a wrong type is none."""
    with connect(small_server.url, name="test") as client:
        client.config_set("maxmemory", "1")
        assert is_outage(error_of(client, script=script))
        client.config_set("maxmemory", "0")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert is_outage(error_of(client, script=script))
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.set("x", "no stream")
        assert not is_outage(error_of(client, script=script))


def test_a_server_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    """Refused, before and after it was there."""
    server = EmbeddedRedis(tmp_path)
    with connect(server.url, name="test") as client:
        with pytest.raises(RedisError) as refused:
            client.ping()
        assert is_outage(refused.value)
        with server:
            assert client.ping()
        with pytest.raises(RedisError) as refused:
            client.ping()
        assert is_outage(refused.value)


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    """EMO_REDIS_URL may be unix://."""
    path = tmp_path / "redis.sock"
    with (
        EmbeddedRedis(tmp_path, options=("--unixsocket", str(path))),
        connect(f"unix://{path}", name="test") as client,
    ):
        assert client.ping()


class Swallower:
    """A proxy that passes commands on; while `swallows`, it hangs up instead of answering."""

    def __init__(self, port: int) -> None:
        self.swallows = False
        self.swallowed = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            while command := client.recv(65536):
                server.sendall(command)
                reply = server.recv(65536)
                if self.swallows and b"XADD" in command:
                    self.swallowed += 1
                    return
                client.sendall(reply)


def test_a_command_without_an_answer_is_not_repeated(
    client: Any, redis_server: EmbeddedRedis
) -> None:
    """Given an XADD that was carried out but not answered, the client does not enqueue it twice."""
    proxy = Swallower(redis_server.port)
    try:
        with connect(f"redis://127.0.0.1:{proxy.port}", name="test") as careful:
            careful.ping()
            proxy.swallows = True
            with pytest.raises(redis.exceptions.ConnectionError):
                careful.xadd("emo:jobs", {"key": "a.wav"})
            proxy.swallows = False
            careful.ping()
        until(lambda: proxy.swallowed)
        assert proxy.swallowed == client.xlen("emo:jobs") == 1
    finally:
        proxy.close()


@pytest.fixture
def mute() -> Iterator[str]:
    """URL of a server that swallows everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_says_nothing_is_waited_for_as_long_as_told(mute: str) -> None:
    """Its silence is an outage."""
    began = time.monotonic()
    with (
        connect(mute, name="test", timeout_seconds=0.05) as client,
        pytest.raises(redis.exceptions.TimeoutError) as refused,
    ):
        client.ping()
    assert 0.05 <= time.monotonic() - began < 5
    assert is_outage(refused.value)


def test_a_heartbeat_waits_for_a_quarter_of_the_lease(
    mute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a connection that swallows everything, a worker's lease leaves time for another."""
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    options = {"redis_url": mute, "store": tmp_path.as_uri()}
    settings = load(
        WorkerSettings, options={**options, "lease_seconds": 0.4, "decode_processes": 1}
    )
    config = SimpleNamespace(embed_dim=8)
    model = SimpleNamespace(
        name="tiny", revision="r1", device="cpu", dtype="float32", untrained=True, config=config
    )
    worker = Worker(settings, cast(Engine, SimpleNamespace(model=model, tape_slots=1509)))
    try:
        worker._leases.hold([Delivery(Lane.NORMAL, "1-0", 1, ())])
        began = time.monotonic()
        with pytest.raises(redis.exceptions.TimeoutError):
            worker._heartbeat.beat()
        assert 0.1 <= time.monotonic() - began < 5
    finally:
        worker._assembly.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_entries_are_read_the_same_by_both_protocols(
    client: Any, redis_server: EmbeddedRedis, protocol: int
) -> None:
    """Each with its stream, in order; and nothing where there was nothing."""
    first = client.xadd("a", {"n": "1"})
    second = client.xadd("a", {"n": "2"})
    third = client.xadd("b", {"n": "3"})
    with redis.Redis.from_url(redis_server.url, protocol=protocol) as reader:
        reply = reader.xread({"a": "0", "b": "0"})
        assert list(stream_entries(reply)) == [
            (b"a", (first, {b"n": b"1"})),
            (b"a", (second, {b"n": b"2"})),
            (b"b", (third, {b"n": b"3"})),
        ]
        assert list(stream_entries(reader.xread({"a": "$"}, block=1))) == []
