"""How Redis is reached, which servers will do, and which errors mean to wait."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.exceptions
from redis.exceptions import RedisError, ResponseError

from storage.redis.connection import (
    UnfitServer,
    check_server,
    connect,
    is_outage,
    uptime_seconds,
)
from storage.redis.embedded import EmbeddedRedis
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.redis_servers import SERVERS, binary


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
    with connect(small_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
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
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
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
        connect(f"unix://{path}", name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
    ):
        assert client.ping()
