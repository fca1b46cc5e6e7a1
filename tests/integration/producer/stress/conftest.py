"""`producer stress` on a server, with something that ends its jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from producer.cli import app
from storage.redis.embedded import EmbeddedRedis
from tests.support.paced_worker import PacedWorker
from tests.support.stress_commands import Stress


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One for all of these: what runs on which server is tested for the client."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def worker(server: EmbeddedRedis) -> Iterator[PacedWorker]:
    """Ends jobs at once, each as it should be; the server is empty before."""
    paced = PacedWorker(server.url)
    paced.client.flushall()
    paced = PacedWorker(server.url)
    with paced:
        yield paced


@pytest.fixture
def stress(server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stress:
    """The command, with a store of its own and a JSON file that says what it found."""
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, clips: bool = True, **variables: str) -> Result:
        environment = {"EMO_REDIS_URL": server.url, "EMO_STORE": (tmp_path / "store").as_uri()}
        source = ("--clips", "short", "--save", "run.json") if clips else ()
        command = ("stress", *source, *arguments)
        return CliRunner().invoke(app, command, env=environment | variables)

    return run
