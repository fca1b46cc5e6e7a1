"""`python -m producer control`, as people start it."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from producer.cli import app
from storage.redis.embedded import EmbeddedRedis
from tests.support.control import files
from tests.support.polling import until

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()  # without one it says so first
KEYS = 10_000
MOST_RSS_KB = 150_000


@contextmanager
def program(server: EmbeddedRedis, store: Path, **variables: str) -> Iterator[Any]:
    """A running control."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EMO_")},
        **{"EMO_REDIS_URL": server.url, "EMO_STORE": f"file://{store}", **variables},
    }
    command = [sys.executable, "-m", "producer", "control"]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_ten_thousand_keys_though_killed_at_half(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Without a worker: each key once, and never more than 150 MB; SIGTERM ends it with 0."""
    store = tmp_path / "store"
    files(store / "calls", KEYS)
    submitted = CliRunner().invoke(
        app,
        ["bulk", "submit", "--prefix", "calls/", "--id", "big"],
        env={"EMO_REDIS_URL": redis_server.url},
    )
    assert submitted.output == "big\n"
    room = {"EMO_BULK_LANE_JOBS": str(2 * KEYS), "EMO_WEBHOOK_SECRET": SECRET}
    # However late we look, it cannot be through by then.
    less = room | {"EMO_BULK_LANE_JOBS": str(3 * KEYS // 4)}
    with program(redis_server, store, **less) as killed:
        until(lambda: client.xlen("emo:jobs:bulk") >= KEYS // 2, 60)
        killed.kill()
    assert KEYS // 2 <= client.xlen("emo:jobs:bulk") < KEYS
    for entry in client.zrange("rq:wip:emo", 0, -1):
        client.zadd("rq:wip:emo", {entry: 1})  # as if the 40 seconds of a page were over
    with program(redis_server, store, **room) as resumed:
        until(lambda: client.hget("emo:bulk:big", "status") == b"done", 60)
        status = Path(f"/proc/{resumed.pid}/status").read_text()
        (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        resumed.terminate()
        assert resumed.wait(60) == 0
        assert resumed.stderr
        events = [json.loads(line)["event"] for line in resumed.stderr]
    sent = [fields[b"key"] for _, fields in client.xrange("emo:jobs:bulk")]
    assert (len(sent), len(set(sent))) == (KEYS, KEYS)
    assert int(peak) < MOST_RSS_KB
    assert [events[0], events[-1]] == ["control.ready", "control.stopped"]
