"""Webhooks that were given up on, by the producers' commands."""

import json
from pathlib import Path
from typing import Any

from storage.queue.webhooks import WebhookLetters
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.integration.producer.test_commands import Commands, producer
from tests.support.control import Control, files

__all__ = ["producer"]


def bury(client: Any, job: str, url: str = "https://hooks.example.org/x?token=hush") -> str:
    """Give one up, as a sender does."""
    fields = {"_reason": "HTTP 500", "_attempts": "18", "callback": url, "job": job, "run": "2"}
    return str(client.xadd("emo:webhooks:dead", {**fields, "status": "done"}).decode())


def test_they_are_listed(producer: Commands, client: Any) -> None:
    """The newest first, a table without what may be a secret; JSON has all."""
    first = bury(client, "job-1")
    bury(client, "job-2", "https://other.example.org:8443/")
    bury(client, "evil\x1b[31m", "file:///etc/passwd")
    client.xadd("emo:webhooks", {"job": "waits"})
    ran = producer("webhooks", "list")
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    head = ["entry", "job", "run", "status", "host", "attempts", "age", "reason"]
    assert lines[0].split() == head
    *shown, _, reason, code = lines[3].split()
    assert shown == [first, "job-1", "2", "done", "hooks.example.org", "18"]
    assert (reason, code) == ("HTTP", "500")
    assert "hush" not in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "1 are not delivered yet" in ran.stderr
    ran = producer("webhooks", "list", "--json", "--host", "other.example.org:8443")
    (told,) = map(json.loads, ran.stdout.splitlines())
    assert told["job"] == "job-2"
    assert told["reason"] == "HTTP 500"
    assert told["callback"] == "https://other.example.org:8443/"
    assert (told["attempts"], told["run"]) == (18, 2)
    assert told["died_at_ms"] == int(told["entry"].partition("-")[0])
    assert 0 <= told["age_s"] < 3600
    ran = producer("webhooks", "list", "--limit", "2", "--json")
    assert len(ran.stdout.splitlines()) == 2
    assert "more than 2" in ran.stderr


def test_what_nobody_of_ours_gave_up_is_listed(producer: Commands, client: Any) -> None:
    """As text where it is no number; and its fields take no other's place."""
    odd = {"_attempts": "many", "died_at_ms": "now", "age_s": "old", "attempts": "1"}
    entry = client.xadd("emo:webhooks:dead", {**odd, "run": "9" * 30}).decode()
    told = json.loads(producer("webhooks", "list", "--json").stdout)
    assert (told["entry"], told["attempts"], told["run"]) == (entry, "many", "9" * 30)
    assert isinstance(told["died_at_ms"], int)
    assert isinstance(told["age_s"], float)


def test_they_are_replayed_and_purged(producer: Commands, client: Any) -> None:
    """By job, by entry, by host or all; what is not there is named."""
    entries = [bury(client, f"job-{number}") for number in range(4)]
    other = bury(client, "job-9", "https://other.example.org/")
    assert producer("webhooks", "replay").exit_code == 2
    assert producer("webhooks", "replay", "job-1", "--all").exit_code == 2
    ran = producer("webhooks", "replay", "job-1", entries[2], "nobody")
    assert (ran.exit_code, ran.stderr.splitlines()[0]) == (3, "2 replayed")
    assert "nobody: no webhook" in ran.stderr
    sent = [fields for _, fields in client.xrange("emo:webhooks")]
    assert [fields[b"job"] for fields in sent] == [b"job-2", b"job-1"]
    assert all(not name.startswith(b"_") for fields in sent for name in fields)
    assert producer("webhooks", "purge", "--host", "other.example.org").exit_code == 0
    left = [one.entry for one in WebhookLetters(client, keys=Keys("emo")).listed()]
    assert left == [entries[3], entries[0]]
    assert other not in left
    assert producer("webhooks", "purge", "--all").stderr.splitlines() == ["2 purged"]
    assert client.xlen("emo:webhooks:dead") == 0


def test_a_callback_is_sent_with_submit(producer: Commands, client: Any) -> None:
    """One that cannot be called is refused here, before anything is sent."""
    ran = producer("submit", "a.wav", "--callback", "https://hooks.example.org/x")
    assert ran.exit_code == 0
    ((_, fields),) = client.xrange("emo:jobs")
    assert fields[b"callback"] == b"https://hooks.example.org/x"
    ran = producer("submit", "a.wav", "--callback", "https://user:pw@h/")
    assert ran.exit_code == 2
    assert "field 'callback'" in ran.stderr
    assert client.xlen("emo:jobs") == 1


def test_a_callback_is_sent_with_each_job_of_a_bulk(
    producer: Commands, client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """As with one of `submit`."""
    files(tmp_path / "store" / "a", 3)
    url, place = "https://hooks.example.org/x", f"file://{tmp_path}/store"
    bulk = ("bulk", "submit", "--prefix", "a/")
    assert producer(*bulk, "--callback", "ftp://h/", EMO_STORE=place).exit_code == 2
    assert producer(*bulk, "--callback", url, EMO_STORE=place).exit_code == 0
    control = Control(redis_server.url, tmp_path / "store")
    control.round()
    control.close()
    sent = [fields[b"callback"].decode() for _, fields in client.xrange("emo:jobs:bulk")]
    assert sent == [url] * 3
