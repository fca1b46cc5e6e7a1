"""Where the console listens."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from producer.cli import app
from storage.redis.embedded import EmbeddedRedis


@pytest.fixture
def _quiet_afterwards() -> Iterator[None]:
    """What a program has configured does not outlive it."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_quiet_afterwards")
def test_an_address_that_is_taken_is_named(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once, with why and with what to do."""
    monkeypatch.setenv("EMO_REDIS_URL", redis_server.url)
    monkeypatch.setenv("EMO_STORE", tmp_path.as_uri())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = CliRunner().invoke(app, ["console", "--address", address])
    assert ran.exit_code == 1
    why = f"EMO_CONSOLE_ADDRESS={address}: Address already in use; choose another"
    assert why in " ".join(ran.output.split())
