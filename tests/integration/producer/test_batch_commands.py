"""`python -m producer batch`, in this process."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from producer.cli import app
from producer.client import BatchGone, BatchState, Client, Lane, RedisError
from producer.commands.batch import states
from storage.queue.bulks import BulkStatus
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from tests.support.acl import ACL_FILE, PRODUCER
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


BULKS: list[tuple[dict[str, Any], int, str]] = [
    ({"status": BulkStatus.FAILED, "error": "no such list"}, 1, "resumed: no such list"),
    ({"status": BulkStatus.DONE}, 1, "has expired, or was deleted"),
    ({"status": BulkStatus.CANCELLED}, 1, "has expired, or was deleted"),
    ({"status": BulkStatus.PAUSED}, 4, "is paused: nothing more of it is sent"),
    ({"error": "waits: the store is away"}, 4, "bulk b: waits: the store is away"),
    ({"keys": 0}, 4, "bulk b: no job of it has come yet: control sends them"),
]


@pytest.mark.parametrize(("change", "status", "told"), BULKS)
def test_what_holds_up_the_batch_of_a_bulk_is_told(
    producer: Commands, redis_server: EmbeddedRedis, change: dict[str, Any], status: int, told: str
) -> None:
    """Once; and where it is for good, nobody waits for it."""
    with Client(redis_server.url) as client:
        bulks = client.operator.bulks
        bulks.create("b", Lane.BULK, {"prefix": "a/"}, {})
        bulks.change("b", [BulkStatus.RUNNING], **change)
    waited = producer("batch", "wait", "b", *(["--timeout", "0.05"] if status == 4 else []))
    assert (waited.exit_code, waited.stdout) == (status, "")
    assert waited.stderr.count(told) == 1


def test_a_batch_that_nobody_knows_is_waited_for_and_told(
    producer: Commands, redis_server: EmbeddedRedis, streams: JobStreams
) -> None:
    """It may be yet to come, and then is followed to its end."""
    waited = producer("batch", "wait", "b", "--timeout", "0.05")
    assert waited.exit_code == 4
    assert waited.stderr.splitlines() == [
        "batch b: no job of it has come yet, or it has expired",
        "batch b is not complete yet",
    ]
    with Client(redis_server.url) as ours, ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(producer, "batch", "wait", "b", "--timeout", "120")
        ours.batch("b").submit("a.wav")
        ours.batch("b").seal(1)
        end(streams, DONE, 1)
        assert waiting.result().exit_code == 0


def test_a_batch_that_goes_while_it_is_waited_for_is_gone(
    redis_server: EmbeddedRedis, client: Any, streams: JobStreams
) -> None:
    """For a program as for the command, which tells too of a bulk that fails meanwhile."""
    with Client(redis_server.url) as ours:
        waits: list[Callable[[], Iterator[BatchState]]] = [
            lambda: ours.batch("b").wait(timeout_seconds=120),
            lambda: states(ours, "b", 120),
        ]
        for wait in waits:
            ours.batch("b").seal(5)
            found = wait()
            assert next(found).total == 5
            client.delete("emo:batch:b")
            with pytest.raises(BatchGone, match="has expired, or was deleted"):
                next(found)
        ours.batch("b").seal(5)
        found = states(ours, "b", 120)
        assert next(found).total == 5
        ours.operator.bulks.create("b", Lane.BULK, {"prefix": "a/"}, {})
        ours.operator.bulks.change("b", [BulkStatus.RUNNING], status=BulkStatus.FAILED)
        with pytest.raises(typer.Exit) as ended:
            next(found)
        assert ended.value.exit_code == 1


def test_who_may_not_look_at_bulks_waits_for_batches(
    producer: Commands, redis_server: EmbeddedRedis, client: Any
) -> None:
    """A producer's user has no right to them."""
    lines = ACL_FILE.read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"user {PRODUCER} ")]
    rights = [word for word in line.split()[2:] if not word.startswith("#")]
    client.execute_command("ACL", "SETUSER", "waits", *rights, ">secret")
    try:
        url = redis_server.url.replace("://", "://waits:secret@")
        with Client(url) as ours:
            with pytest.raises(RedisError, match=r"(?i)perm"):
                ours.operator.bulks.get("b")
            ours.batch("b").seal(0)
            assert [state.complete for state in states(ours, "b", 60)] == [True]
            with pytest.raises(TimeoutError):
                list(states(ours, "c", 0.05))
    finally:
        client.execute_command("ACL", "DELUSER", "waits")
