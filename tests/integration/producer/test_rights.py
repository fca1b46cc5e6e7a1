"""Commands that an operator's rights are needed for, by somebody who has fewer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from producer.cli import app
from storage.redis.embedded import EmbeddedRedis
from tests.support.acl import PRODUCER, let_in

COMMANDS = (
    *(("lanes",), ("lanes", "pause", "bulk"), ("lanes", "resume", "bulk")),
    *(("top", "--once"), ("cancel", "call-1")),
    *(
        ("dead", "list"),
        ("dead", "summary"),
        ("dead", "replay", "--all"),
        ("dead", "purge", "--all"),
    ),
    *(("webhooks", "list"), ("webhooks", "replay", "--all"), ("bulk", "list")),
    ("bulk", "submit", "--prefix", "a"),
)


@pytest.fixture
def refused(client: Any, redis_server: EmbeddedRedis) -> Iterator[str]:
    """Where a producer logs in, at a server that has a job and letters of either kind."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "call-1"})
    client.hset("emo:result:call-1", mapping={"status": "queued", "_entry": "1-1"})
    client.xadd("emo:dead", {"job": "call-2"})
    client.xadd("emo:webhooks:dead", {"job": "call-2"})
    yield redis_server.url.replace("://", let_in(client, PRODUCER))
    client.execute_command("ACL", "DELUSER", PRODUCER)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_who_may_do_it_is_named(
    command: tuple[str, ...], refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a script or not, in the words of each server; and where users are described."""
    monkeypatch.chdir(tmp_path)
    variables = {"EMO_REDIS_URL": refused, "EMO_STORE": tmp_path.as_uri()}
    ran = CliRunner().invoke(app, command, env=variables)
    assert ran.exit_code == 1, ran.output
    said = "the user of EMO_REDIS_URL may not do that, emo-operator may"
    assert f"{said} (docs/operations.md#redis-users): " in ran.stderr
