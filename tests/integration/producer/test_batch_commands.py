"""`python -m producer batch`, in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from producer.cli import app
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from tests.support.stream_workers import DONE, FAILED, end

Commands = Callable[..., Result]


@pytest.fixture
def producer(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commands:
    """The command line on an empty server."""
    monkeypatch.chdir(tmp_path)
    environment = {"EMO_REDIS_URL": redis_server.url}
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


def test_a_batch_by_commands(producer: Commands, streams: JobStreams) -> None:
    """Sent, sealed, shown, waited for, and its failures named."""
    assert "batch monday: unknown" in producer("batch", "show", "monday").stderr
    for clip in ("a.wav", "b.wav"):
        assert producer("submit", clip, "--batch", "monday").exit_code == 0
    assert "has 2 jobs and repeats" in producer("batch", "seal", "monday", "1").stderr
    sealed = json.loads(producer("batch", "seal", "monday", "2", "--json").stdout)
    assert (sealed["status"], sealed["total"], sealed["open"]) == ("sealed", 2, 2)
    waited = producer("batch", "wait", "monday", "--timeout", "0.05")
    assert (waited.exit_code, waited.stderr) == (4, "batch monday is not complete yet\n")
    end(streams, FAILED, 1)
    end(streams, DONE, 1)
    waited = producer("batch", "wait", "monday")
    assert waited.exit_code == 3
    shown = dict(line.split() for line in waited.stdout.splitlines())
    assert (shown["status"], shown["done"], shown["failed"]) == ("complete", "1", "1")
    assert waited.stdout == producer("batch", "show", "monday").stdout
    (failure,) = producer("batch", "failures", "monday").stdout.splitlines()
    assert failure.split()[1:] == ["failed", "not_audio"]
    told = json.loads(producer("batch", "failures", "monday", "--json").stdout)
    assert (told["job"], told["error_code"]) == (failure.split()[0], "not_audio")
    assert producer("batch", "cancel", "monday").exit_code == 1


def test_a_batch_is_cancelled_by_a_command(producer: Commands, streams: JobStreams) -> None:
    """Its jobs end when they are met; waiting for it then tells that not all are done."""
    producer("submit", "a.wav", "--batch", "monday", "--job", "x")
    cancelled = producer("batch", "cancel", "monday")
    assert cancelled.exit_code == 0
    assert "1 job(s) that are known have not ended" in cancelled.stderr
    end(streams, DONE, 1)
    producer("batch", "seal", "monday", "1")
    assert producer("batch", "wait", "monday", "--json").exit_code == 3
    assert json.loads(producer("status", "x", "--json").stdout)["status"] == "cancelled"


@pytest.mark.parametrize("command", [("show",), ("cancel",), ("wait",), ("failures",)])
def test_what_is_no_id_is_told(producer: Commands, command: tuple[str, ...]) -> None:
    """As a setting that is wrong."""
    told = producer("batch", *command, "two words")
    assert told.exit_code == 2
    assert "field 'batch'" in told.stderr
    assert producer("submit", "a.wav", "--batch", "two words").exit_code == 2
