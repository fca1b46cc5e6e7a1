"""`python -m producer control` sends webhooks, to the receiver that the docs show and to others."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.polling import until
from tests.support.ports import own_port
from tests.support.stream_workers import DONE, new_streams
from tests.support.webhook_receiver import SECRET, Receiver, Slow, status
from tests.support.worker_process import ROOT

PAGE = ROOT / "docs" / "webhooks.md"
LINES = 11  # of the receiver that the docs show, blank ones left out
START_SECONDS = 120.0


@contextmanager
def program(*words: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python so; killed at the end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=log.parent,
            env={**environment, "PYTHONPATH": str(ROOT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ends(client: Any, keys: Keys, url: str, *jobs: str) -> None:
    """Jobs that are done, and want it told there."""
    one = new_streams(JobStreams, client, keys, "one", 60)
    for job in jobs:
        client.xadd("emo:jobs", {"key": "a.wav", "job": job, "callback": url})
    one.finish([(begun, DONE) for begun in one.begin(one.read(500))])


def test_control_delivers_and_tries_again(
    client: Any, keys: Keys, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A receiver of ten lines is told; one that fails at first is told by rq's second attempt."""
    (shown,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len([line for line in shown.splitlines() if line]) <= LINES
    port, seen, secret = own_port(), Counter[str](), {"EMO_WEBHOOK_SECRET": SECRET}

    def faulty(handler: Any) -> None:
        seen[handler.headers["webhook-id"]] += 1
        status(204 if seen[handler.headers["webhook-id"]] > 1 else 500)(handler)

    with (
        Receiver(faulty) as other,
        program("-c", shown.replace("8000", str(port)), log=tmp_path / "shown.log", **secret),
        program(
            *("-m", "producer", "control"),
            log=tmp_path / "control.log",
            EMO_REDIS_URL=redis_server.url,
            EMO_WEBHOOK_HTTP="true",
            EMO_WEBHOOK_HOSTS=f"127.0.0.1:{port}, 127.0.0.1:{other.port}",
            **secret,
        ) as control,
    ):
        ends(client, keys, other.url(), "fails-first")
        ends(client, keys, f"http://127.0.0.1:{port}/", "call.4711")
        until(lambda: not client.xlen("emo:webhooks"), START_SECONDS)
        shown_log = (tmp_path / "shown.log").read_text()
        assert shown_log.startswith("call~4711:1 {'job': 'call.4711', 'run': 1, 'status': 'done'")
        assert other.ids == ["fails-first:1"] * 2
        assert other.wrong == []
        control.send_signal(signal.SIGTERM)
        assert control.wait(START_SECONDS) == 0
    said = (tmp_path / "control.log").read_text()
    assert "webhook.failed" in said
    assert "webhooks.failed" not in said
    assert SECRET not in said


def test_a_sender_that_is_killed_loses_nothing(
    client: Any, keys: Keys, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """SIGKILL with some under way and some in hand: another one sends them, a lease later."""
    slow, jobs = Slow(), [f"job-{number}" for number in range(40)]
    with Receiver(slow) as receiver:
        command = ("-m", "tests.support.webhook_sender", redis_server.url, str(receiver.port))
        ends(client, keys, receiver.url(), *jobs)
        with program(*command, log=tmp_path / "first.log") as first:
            until(lambda: slow.now == 4, START_SECONDS)
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert client.xlen("emo:webhooks") == len(jobs)
        slow.let.set()
        with program(*command, log=tmp_path / "second.log"):
            until(lambda: not client.xlen("emo:webhooks"), START_SECONDS)
        assert set(receiver.ids) == {f"{job}:1" for job in jobs}
        assert receiver.wrong == []
