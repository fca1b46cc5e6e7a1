"""Files that another kind of server wrote: said where they matter, gone where nobody needs them."""

from pathlib import Path

import pytest

from producer.demo import Demo
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis, NoServer
from tests.support.polling import TIMEOUT_SECONDS


def spoiled(directory: Path) -> Path:
    """A server's directory whose files no server can read."""
    files = directory / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.manifest").write_text("written by another version\n")
    return directory


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """Its own last words are in the message, beside the file that has them all."""
    directory = spoiled(tmp_path / "redis")
    with pytest.raises(NoServer) as refused:
        EmbeddedRedis(directory).start()
    message = str(refused.value)
    assert str(directory / "server.log") in message
    assert "manifest" in message


def test_a_demo_starts_fresh(tmp_path: Path) -> None:
    """After `apt install redis`, say: what an earlier demo left with Valkey is not read."""
    spoiled(tmp_path / "redis")
    with (
        Demo(tmp_path).redis(keep=False) as url,
        connect(url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
    ):
        assert client.ping()
