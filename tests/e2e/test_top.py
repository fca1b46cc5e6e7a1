"""`producer top` as people see it: on a terminal, through an outage, and where it is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.e2e.conftest import Program
from tests.support.ports import own_port
from tests.support.terminal import Terminal

KEYS = Keys("emo")


@pytest.mark.parametrize("width", [80, 160])
def test_it_fits_the_terminal_and_outlives_an_outage(width: int, tmp_path: Path) -> None:
    """Figures while Redis answers, none while it does not, and again when it is back."""
    port = own_port()
    url = f"redis://127.0.0.1:{port}"
    command = ("producer", "top", "--every", "0.2")
    with EmbeddedRedis(tmp_path, port=port), connect(url, name="test") as client:
        Words(client, KEYS, "one", lease_seconds=3600).tell({"state": "ready", "clips_per_s": 2.5})
        variables = {"EMO_REDIS_URL": url}
        terminal = Terminal(*command, width=width, height=30, variables=variables)
        lines = terminal.wait_for(
            lambda seen: any("1 of 1 workers take jobs" in each for each in seen)
        )
        assert max(map(len, lines)) <= width
        assert any(line.startswith("one ") and "2.5" in line for line in lines)
    lines = terminal.wait_for(lambda seen: any("Redis does not answer" in each for each in seen))
    assert not any("workers" in line or "one " in line for line in lines)
    with EmbeddedRedis(tmp_path, port=port):
        terminal.wait_for(lambda seen: any("workers take jobs" in each for each in seen))
    assert terminal.interrupt() == 130


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
