"""`producer top` as people see it: on a terminal, through an outage, and where it is none."""

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane, Status
from tests.e2e.conftest import Program
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.ports import own_port
from tests.support.stream_workers import begin_one, new_streams
from tests.support.terminal import Terminal

KEYS = Keys("emo")


@pytest.mark.parametrize("width", [80, 160])
def test_it_fits_the_terminal_and_outlives_an_outage(width: int, tmp_path: Path) -> None:
    """Figures while Redis answers, none while it does not, and again when it is back."""
    port = own_port()
    url = f"redis://127.0.0.1:{port}"
    command = ("producer", "top", "--every", "0.2")
    variables = {"EMO_REDIS_URL": url}
    with ExitStack() as stack:
        with (
            EmbeddedRedis(tmp_path, port=port),
            connect(url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
        ):
            words = Words(client, KEYS, "one", lease_seconds=3600)
            words.tell({"state": "ready", "clips_per_s": 2.5})
            started = Terminal(*command, width=width, height=30, variables=variables)
            terminal = stack.enter_context(started)
            lines = terminal.wait_for(
                lambda seen: any("1 of 1 workers take jobs" in each for each in seen)
            )
            assert max(map(len, lines)) <= width
            assert any(line.startswith("one ") and "2.5" in line for line in lines)
        lines = terminal.wait_for(
            lambda seen: any("Redis does not answer" in each for each in seen)
        )
        assert not any("workers" in line or "one " in line for line in lines)
        with EmbeddedRedis(tmp_path, port=port):
            terminal.wait_for(lambda seen: any("workers take jobs" in each for each in seen))
        assert terminal.interrupt() == 130


def test_keys_pause_replay_and_cancel(redis_server: EmbeddedRedis, client: Any) -> None:
    """Where it may; what cannot be undone is asked about. The terminal is as it was afterwards."""
    worker = new_streams(JobStreams, client, KEYS, "one", 30)
    for job in ("waits", "dies"):
        client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": job})
    waits, dies = begin_one(worker), begin_one(worker)
    worker.retry(waits, delay_seconds=3600, code="storage_unavailable", message="x")
    letter = {"error_code": "internal", "error": "x"}
    worker.finish([(dies, Ending(Status.DEAD, letter, dead_reason="internal"))])
    command = ("producer", "top", "--every", "3600", "--write")
    variables = {"EMO_REDIS_URL": redis_server.url}
    with Terminal(*command, width=100, height=40, variables=variables) as terminal:

        def sees(text: str) -> None:
            terminal.wait_for(lambda lines: any(text in line for line in lines))

        sees("keys: ")
        terminal.press("p")
        sees("high (paused)")  # looked at again at once
        assert client.hexists(KEYS.paused, "high")
        terminal.press("\x1b[B\x1b[B\x1b[Br")
        sees("Run the dead jobs of internal again")
        terminal.press("y")
        sees("internal: 1 replayed, 0 not")
        assert client.hget(KEYS.result("dies"), "status") == b"queued"
        terminal.press("\x1b[Bc")
        sees("Cancel the 1 that wait for a retry by storage_unavailable?")
        sees("That cannot be undone. y: yes; any other key: no")
        terminal.press("n")
        sees("nothing was changed")
        assert client.hget(KEYS.result("waits"), "status") == b"retrying"
        terminal.press("cy")
        sees("storage_unavailable: 1 cancelled, 0 not")
        assert client.hget(KEYS.result("waits"), "status") == b"cancelled"
        terminal.press("odies\rc")
        sees("Cancel job dies?")
        terminal.press("y")
        sees("job dies: cancelled; it was queued")
        terminal.press(f"\x1b{'k' * 9}pjjp")  # at once, as over a slow line
        sees("bulk (paused)")
        assert not client.hexists(KEYS.paused, "high")
        assert not terminal.echoes()
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.echoes()


def test_it_only_shows_unless_told_and_leaves_the_terminal(
    redis_server: EmbeddedRedis, client: Any
) -> None:
    """Without --write no key changes anything; a supervisor's signal leaves no terminal broken."""
    variables = {"EMO_REDIS_URL": redis_server.url}
    with Terminal("producer", "top", width=80, height=30, variables=variables) as terminal:
        terminal.wait_for(lambda lines: any("keys: q ends" in line for line in lines))
        terminal.press("p")
        terminal.wait_for(lambda lines: any("start it with --write" in line for line in lines))
        assert not client.exists(KEYS.paused)
        assert terminal.interrupt(signal.SIGTERM) == 143
        assert terminal.echoes()


def test_without_a_terminal_it_prints_a_look(
    program: Program, redis_server: EmbeddedRedis, client: Any
) -> None:
    """Once, as text or as JSON; and it says why where there is no Redis."""
    Words(client, KEYS, "one", lease_seconds=3600).tell({"state": "sick", "sickness": "no room"})
    client.xadd(KEYS.results, {"job": "j", "status": "failed", "error_code": "not_audio"})
    variables = {"EMO_REDIS_URL": redis_server.url}
    told = program("producer", "top", "--once", **variables)
    assert told.returncode == 0, told.stderr
    assert "one: no room" in told.stdout
    assert "\x1b" not in told.stdout
    told = program("producer", "top", "--once", "--json", **variables)
    (line,) = told.stdout.splitlines()
    found = json.loads(line)
    assert found["workers"][0]["sickness"] == "no room"
    assert found["failures"][0]["code"] == "not_audio"
    assert found["lanes"]["bulk"]["paused_s"] is None
    told = program("producer", "top", "--once", EMO_REDIS_URL=f"redis://127.0.0.1:{own_port()}")
    assert told.returncode == 1
    assert "EMO_REDIS_URL" in told.stderr
