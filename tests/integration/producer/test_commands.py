"""What operators do to jobs by the producers' commands, in this process."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from typer.testing import CliRunner, Result

from producer import program
from producer.cli import app
from producer.client import Client
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.queue.submission import Submitted
from storage.queue.workers import Words
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.stream_workers import begin_one

Commands = Callable[..., Result]


@pytest.fixture
def producer(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commands:
    """The producers' command line on an empty server, away from a developer's .env."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **variables: str) -> Result:
        environment = {"EMO_REDIS_URL": redis_server.url, **variables}
        return CliRunner().invoke(app, arguments, env=environment)

    return run


def die(client: Any, streams: JobStreams, job: str, reason: str, **fields: Any) -> None:
    """Enqueue a job that dies of its first try."""
    client.xadd("emo:jobs:high", {"key": f"{job}.wav", "job": job, **fields})
    result = {"error_code": reason, "error": "the store was away"}
    streams.finish([(begin_one(streams), Ending(Status.DEAD, result, dead_reason=reason))])


def test_cancel_ends_what_can_be_cancelled(
    producer: Commands, client: Any, streams: JobStreams
) -> None:
    """Queued and running jobs are cancelled; the others are named, and the exit status is 3."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "call-1"})
    begin_one(streams)
    entry = client.xadd("emo:jobs", {"key": "b.wav"}).decode()
    ran = producer("cancel", "call-1", entry, "nobody")
    assert ran.exit_code == 3
    assert ran.stdout.split() == ["call-1", entry]
    assert "job nobody: unknown" in ran.stderr
    again = producer("cancel", "call-1", "--json")
    assert again.exit_code == 0, "what is wanted is so already"
    assert "job call-1: is cancelled already; nothing was changed" in again.stderr
    waited = producer("wait", "call-1", entry, "--json")
    assert waited.exit_code == 3
    ends = [json.loads(line)["status"] for line in waited.stdout.splitlines()]
    assert ends == ["cancelled", "cancelled"]
    assert client.xlen("emo:jobs") == 0


class Unreliable(Client):
    """The connection is lost with the reply to the second submission."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sent = 0

    def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """Enqueue in any case."""
        submitted = super().submit(job, lane)
        self._sent += 1
        if self._sent > 1:
            raise RedisConnectionError("Connection reset by peer")
        return submitted


def test_a_submission_without_an_answer_can_be_repeated(
    producer: Commands, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a reply that is lost, the ids that were chosen are told, and repeating adds nothing."""
    with monkeypatch.context() as faulty:
        faulty.setattr(program, "Client", Unreliable)
        ran = producer("submit", "a.wav", "b.wav", "c.wav", "--wait")
    assert ran.exit_code == 1
    first, second = (fields[b"job"].decode() for _, fields in client.xrange("emo:jobs"))
    assert ran.stderr.splitlines() == [
        "enqueued, and not waited for:",
        f"{first}  a.wav",
        "Connection reset by peer",
        f"b.wav may have been enqueued as job {second}: repeat it with --job {second}",
    ]
    again = producer("submit", "b.wav", "--job", second)
    assert (again.exit_code, again.stdout.split()) == (0, [second])
    assert client.xlen("emo:jobs") == 2


def test_letters_are_listed_and_shown(producer: Commands, client: Any, streams: JobStreams) -> None:
    """A table for people, JSON for programs, the newest first; what was sent cannot harm either."""
    die(client, streams, "old", "internal")
    die(client, streams, "new", "storage_unavailable", colour="re\x1b[31md")
    table = producer("dead", "list").stdout.splitlines()
    columns = ["entry", "job", "lane", "reason", "attempts", "run", "age", "worker", "key"]
    assert table[0].split() == columns
    assert table[1].split()[1:6] == ["new", "high", "storage_unavailable", "1", "1"]
    assert [line.split()[1] for line in table[1:]] == ["new", "old"]
    (line,) = producer("dead", "list", "--json", "--reason", "internal").stdout.splitlines()
    letter = json.loads(line)
    assert (letter["job"], letter["attempts"], letter["run"]) == ("old", 1, 1)
    assert letter["fields"] == {"key": "old.wav", "job": "old"}
    cut = producer("dead", "list", "--limit", "1")
    assert len(cut.stdout.splitlines()) == 2
    assert "more than 1" in cut.stderr
    assert producer("dead", "list", "--older-than", "1h").stdout == ""
    shown = producer("dead", "show", "new").stdout
    assert "the store was away" in shown
    assert "re\\x1b[31md" in shown
    by_entry = json.loads(producer("dead", "show", letter["entry"], "--json").stdout)
    assert by_entry["job_now"]["status"] == "dead"
    missing = producer("dead", "show", "nobody")
    assert missing.exit_code == 1
    assert "nobody: no dead letter" in missing.stderr


def test_chosen_letters_are_replayed(producer: Commands, client: Any, streams: JobStreams) -> None:
    """Chosen jobs are queued again; what was not is told with what to do, and the status is 3."""
    for job in ("a", "b", "late"):
        die(client, streams, job, "internal")
    ((entry, fields),) = client.xrevrange("emo:dead", count=1)
    client.xdel("emo:dead", entry)
    client.xadd("emo:dead", {**fields, "deadline_ms": 1000})
    for nothing in ([], ["a", "--all"], ["--older-than", "soon"]):
        assert producer("dead", "replay", *nothing).exit_code == 2
    assert client.xlen("emo:dead") == 3
    one = producer("dead", "replay", "a", "nobody")
    assert (one.exit_code, one.stdout.split()) == (3, ["a"])
    assert "nobody: no dead letter" in one.stderr
    rest = producer("dead", "replay", "--all")
    assert (rest.exit_code, rest.stdout.split()) == (3, ["b"])
    assert "deadline passed at 1970-01-01 00:00:01" in rest.stderr
    assert "1 replayed, 1 not" in rest.stderr
    late = producer("dead", "replay", "--reason", "internal", "--drop-deadline")
    assert (late.exit_code, late.stdout.split()) == (0, ["late"])
    assert client.xlen("emo:jobs:high") == 3
    full = {"EMO_MAX_BACKLOG": "3"}
    die_again = begin_one(streams)
    ending = Ending(Status.DEAD, {"error": "again"}, dead_reason="internal")
    streams.finish([(die_again, ending)])
    client.xadd("emo:jobs", {"key": "c.wav"})
    refused = producer("dead", "replay", "--all", "--when-full", "fail", **full)
    assert refused.exit_code == 1
    assert "3 jobs are waiting; EMO_MAX_BACKLOG=3" in refused.stderr


def test_chosen_letters_are_purged(producer: Commands, client: Any, streams: JobStreams) -> None:
    """What is chosen is deleted, and nothing else; to delete all takes --all."""
    for job in ("a", "b", "c"):
        die(client, streams, job, "internal")
    assert producer("dead", "purge").exit_code == 2
    ran = producer("dead", "purge", "a", "--newer-than", "1h")
    assert (ran.exit_code, ran.stderr.strip()) == (0, "1 purged")
    assert client.xlen("emo:dead") == 2
    assert producer("dead", "purge", "--older-than", "7d").stderr.strip() == "0 purged"
    assert producer("dead", "purge", "a").exit_code == 3
    assert producer("dead", "purge", "--all").exit_code == 0
    assert client.xlen("emo:dead") == 0


def test_the_lanes_are_shown(producer: Commands, client: Any, streams: JobStreams) -> None:
    """Numbers by lane and together, and who works; the same as JSON."""
    die(client, streams, "x", "internal")
    client.xadd("emo:jobs", {"key": "a.wav"})
    begin_one(streams)
    client.xadd("emo:jobs", {"key": "b.wav"})
    rows = [line.split() for line in producer("lanes").stdout.splitlines()]
    assert rows[0][:2] == ["lane", "queued"]
    assert rows[1][:5] == ["high", "0", "0", "0", "1"]
    assert rows[2][:5] == ["normal", "1", "1", "0", "0"]
    assert rows[4][:5] == ["all", "1", "1", "0", "1"]
    assert rows[-1][:2] == ["one", "1"]
    found = json.loads(producer("lanes", "--json").stdout)
    assert found["lanes"]["normal"]["workers"][0]["in_flight"] == 1
    assert found["all"]["oldest_queued_s"] == found["lanes"]["normal"]["oldest_queued_s"] < 60
    assert found["estimated"] == {"delayed": False, "dead": False}


def test_the_parts_of_results_that_were_waited_for_are_shown(
    producer: Commands, client: Any
) -> None:
    """Turns as a table, and where they are if they are too many; other results have neither."""
    told = {"label": "happy", "score": 0.75, "scores": {"happy": 0.75, "sad": 0.25}}
    turn = {"start_s": 0, "end_s": 2, "speaker": "Anna", **told}
    done = {"status": "done", "run": "1", "label": "happy", "score": "0.75"}
    client.hset("emo:result:call", mapping={**done, "segments": json.dumps([turn])})
    client.hset("emo:result:long", mapping={**done, "segments_key": "out/long.segments.json"})
    client.hset("emo:result:plain", mapping=done)
    ran = producer("wait", "call", "long", "plain")
    assert ran.exit_code == 0, ran.output
    _, *rest = ran.stdout.split("\n\n")
    table, where = (part.split("\n") for part in rest)
    assert table[0].strip() == "call:"
    assert table[2].split()[:6] == ["segment", "0.00", "-", "2.00", "Anna", "happy"]
    assert where[0].strip() == "long:"
    assert where[1].startswith("segments: too long to be shown")
    assert "out/long.segments.json" in where[1]
    as_json = producer("wait", "call", "--json")
    assert json.loads(as_json.stdout)["segments"] == [turn]


def test_letters_are_summed_up_and_replayed_by_reason(
    producer: Commands, client: Any, streams: JobStreams
) -> None:
    """By reason, with the newest of each; those of another reason stay, also a stranger's."""
    for number in range(3):
        die(client, streams, f"slow-{number}", "stage_timeout")
    die(client, streams, "other", "internal")
    client.xadd("emo:dead", {"hello": "there", "_reason": "stage_timeout"})
    client.xadd("emo:dead", {"hello": "there"})
    (table, *_), rows = producer("dead", "summary").stdout.splitlines()[:1], {}
    assert table.split() == ["reason", "letters", "newest", "job"]
    for line in producer("dead", "summary", "--json").stdout.splitlines():
        told = json.loads(line)
        rows[told["reason"]] = (told["letters"], told["job"])
    assert rows == {"stage_timeout": (4, ""), "internal": (1, "other"), "": (1, "")}
    assert producer("dead", "summary", "--older-than", "1h").stdout == ""
    ran = producer("dead", "replay", "--reason", "stage_timeout")
    assert (ran.exit_code, sorted(ran.stdout.split())) == (3, ["slow-0", "slow-1", "slow-2"])
    assert "3 replayed, 1 not" in ran.stderr
    assert "its field _job is no job id" in ran.stderr
    assert (client.xlen("emo:dead"), client.xlen("emo:jobs:high")) == (3, 3)


def test_many_letters_are_replayed_as_there_is_room(
    producer: Commands, client: Any, streams: JobStreams
) -> None:
    """Up to the backlog, each once; the rest stays, and is replayed when there is room."""
    for number in range(450):
        letter = {"_job": f"x-{number}", "_lane": "bulk", "_run": "1", "key": "a.wav"}
        client.xadd("emo:dead", letter | {"_reason": "internal" if number % 3 else "other"})
    full = {"EMO_MAX_BACKLOG": "250"}
    ran = producer("dead", "replay", "--reason", "internal", "--when-full", "fail", **full)
    assert ran.exit_code == 1
    assert "(250 replayed before)" in ran.stderr
    assert (client.xlen("emo:jobs:bulk"), client.xlen("emo:dead")) == (250, 200)
    assert producer("dead", "replay", "--reason", "internal").exit_code == 0
    assert (client.xlen("emo:jobs:bulk"), client.xlen("emo:dead")) == (300, 150)


def test_a_lane_is_paused_and_resumed(producer: Commands, client: Any) -> None:
    """And the lanes tell it; an unknown lane is a mistake."""
    assert producer("lanes", "pause", "bulk").stderr == "lane bulk: paused\n"
    assert producer("lanes", "pause", "bulk").stderr == "lane bulk: was paused already\n"
    assert client.hkeys("emo:paused") == [b"bulk"]
    told = producer("lanes").stdout
    assert re.search(r"bulk: paused for \d+s; `lanes resume bulk` goes on", told)
    lanes = json.loads(producer("lanes", "--json").stdout)["lanes"]
    assert 0 <= lanes["bulk"]["paused_s"] < 600
    assert lanes["high"]["paused_s"] is None
    assert producer("lanes", "resume", "bulk").stderr == "lane bulk: resumed\n"
    assert producer("lanes", "resume", "bulk").stderr == "lane bulk: was not paused\n"
    assert producer("lanes", "pause", "sideways").exit_code == 2


def test_everything_at_a_glance(
    producer: Commands, client: Any, keys: Keys, streams: JobStreams
) -> None:
    """Lanes, workers, rates and failures, once, for people and for programs."""
    die(client, streams, "x", "internal")
    told: dict[str, str | float] = {
        "state": "ready",
        "clips_per_s": 21.5,
        "period_s": 7.5,
        "settings": "{}",
    }
    Words(client, keys, "host-17-c98c22c4", lease_seconds=3600).tell(told)
    ran = producer("top", "--once")
    assert ran.exit_code == 0, ran.output
    assert "1 of 1 workers take jobs" in ran.stdout
    assert "21.5 clips/s" in ran.stdout
    assert "1 failed of the last 1 ends" in ran.stdout
    found = json.loads(producer("top", "--once", "--json").stdout)
    assert [each["name"] for each in found["workers"]] == ["host-17-c98c22c4"]
    assert found["together"]["clips_a_second"] == 21.5
    assert found["failures"][0]["code"] == "internal"
    assert found["failures"][0]["newest"] == ["x"]
    assert found["all"]["dead"] == found["lanes"]["high"]["dead"] == 1
    assert producer("top", "--every", "0").exit_code == 2
