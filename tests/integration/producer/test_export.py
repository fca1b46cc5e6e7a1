"""`python -m producer export` and `purge-uploads`, in this process."""

import csv
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from producer.cli import app
from producer.commands.export import moment_ms
from producer.export.formats import Format
from producer.export.rows import rows_of
from producer.export.writers import write
from storage.queue.entries import Ending
from storage.queue.history import Ended, History
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.stream_workers import new_streams

Commands = Callable[..., Result]
DONE = Ending(
    Status.DONE,
    {
        **{"key": "calls/é.wav", "label": "happy", "score": "0.75", "duration_s": "2.5"},
        **{"scores": '{"happy":0.75,"sad":0.25}', "warning": "truncated"},
        "segments": '[{"start_s":0,"end_s":1,"label":"sad","score":0.5,"scores":{"sad":0.5}}]',
    },
)
FAILED = Ending(Status.FAILED, {"key": "b.wav", "error_code": "not_audio", "error": "=1+1,\n"})


@pytest.fixture
def producer(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commands:
    """The command line on an empty server, with a store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    environment = {"EMO_REDIS_URL": redis_server.url, "EMO_STORE": f"file://{tmp_path}/store"}
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


@pytest.fixture
def ended(client: Any, keys: Keys) -> None:
    """Three jobs that ended: done in a batch, failed, and done with a hash that has expired."""
    streams = new_streams(JobStreams, client, keys, "one", 30)
    for job, ending in (("a", DONE), ("b", FAILED), ("c", DONE)):
        batch = {"batch": "monday"} if job == "a" else {}
        client.xadd("emo:jobs", {"key": "x.wav", "job": job, **batch})
        streams.finish([(begun, ending) for begun in streams.begin(streams.read(1))])
    client.delete(keys.result("c"))
    client.xadd(keys.results, {"job": "nobody", "status": "nonsense"})


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, as a program that knows its kind has them."""
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                return [
                    {name: value for name, value in row.items() if value}
                    for row in csv.DictReader(file)
                ]
        case ".jsonl":
            return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        case _:
            import pyarrow.parquet as pq  # noqa: PLC0415 (an extra)

            found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return found


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_results_in_one_object(producer: Commands, tmp_path: Path, kind: str) -> None:
    """A row for each end, in their order; of what has expired, what its event says."""
    said = producer("export", "--to-key", f"exports/all.{kind}")
    expired = "no key, scores or lists of 1 of them: their results have expired"
    assert said.stderr == (
        f"3 result(s) in exports/all.{kind}\n{expired} (EMO_RESULT_TTL_SECONDS)\n"
    )
    assert said.exit_code == 0
    a, b, c = read(tmp_path / "store" / "exports" / f"all.{kind}")
    assert (a["job"], a["key"], a["batch"], a["status"]) == ("a", "calls/é.wav", "monday", "done")
    assert float(a["score"]) == 0.75
    assert (b["status"], b["error_code"]) == ("failed", "not_audio")
    assert b["error"] == ("'=1+1,\n" if kind == "csv" else "=1+1,\n")  # no formula
    assert (c["job"], c["label"], c.get("key")) == ("c", "happy", None)
    scores, segments = a["scores"], a["segments"]
    if kind == "parquet":
        assert scores == [("happy", 0.75), ("sad", 0.25)]
        assert abs(a["finished_at"].timestamp() - time.time()) < 60
    else:
        told = json.loads(scores) if kind == "csv" else scores
        assert told == {"happy": 0.75, "sad": 0.25}
        assert a["finished_at"].endswith("+00:00")
    listed = segments if kind == "jsonl" else json.loads(segments)
    assert listed[0]["label"] == "sad"


@pytest.mark.usefixtures("ended")
def test_what_is_chosen(producer: Commands, client: Any, tmp_path: Path) -> None:
    """By batch and by time; `--to` is not part of it."""
    out = tmp_path / "out.jsonl"

    def jobs(*arguments: str) -> list[str]:
        said = producer("export", "--to-file", str(out), *arguments)
        assert said.exit_code == 0, said.output
        return [row["job"] for row in read(out)]

    assert jobs("--batch", "monday") == ["a"]
    assert jobs("--from", "1h") == ["a", "b", "c"]
    assert jobs("--to", "1h") == []
    assert jobs("--from", "2999-01-01") == []
    entry = client.xrange("emo:results", count=2)[1][0].decode()
    moment = int(entry.partition("-")[0])
    history = History(client, Keys("emo"))
    between = [each.event["job"] for each in history.ends(0, moment)]
    assert between == [job for job in between if job in "a"]
    assert "b" in [each.event["job"] for each in history.ends(moment, moment + 1)]
    said = producer("export", "--to-file", str(out), "--from", "2020-01-01")
    assert "nothing that ended before is written" in said.stderr


@pytest.mark.usefixtures("ended")
def test_a_job_that_ran_again_has_a_row_for_each_run(
    client: Any, keys: Keys, producer: Commands, tmp_path: Path
) -> None:
    """And the hash, which tells of the last, is that one's alone."""
    producer("submit", "x.wav", "--job", "b")
    streams = new_streams(JobStreams, client, keys, "two", 30)
    streams.finish([(begun, DONE) for begun in streams.begin(streams.read(1))])
    producer("export", "--to-file", str(tmp_path / "out.jsonl"))
    rows = [row for row in read(tmp_path / "out.jsonl") if row["job"] == "b"]
    assert [(row["run"], row["status"], row.get("key")) for row in rows] == [
        (1, "failed", None),
        (2, "done", "calls/é.wav"),
    ]


def end_batch(client: Any, keys: Keys, jobs: int, *, ending: Ending = DONE) -> None:
    """So many jobs of the batch `b`, all of them ended."""
    streams = new_streams(JobStreams, client, keys, "one", 30)
    for number in range(jobs):
        client.xadd("emo:jobs", {"key": "x.wav", "job": f"b{number}", "batch": "b"})
    streams.finish([(begun, ending) for begun in streams.begin(streams.read(jobs))])


@pytest.mark.parametrize("to", ["--to-file", "--to-key"])
def test_a_batch_that_is_not_whole_is_told(
    client: Any, keys: Keys, producer: Commands, to: str
) -> None:
    """Its first ends have no event any more, and some of the others no result."""
    export = ("export", to, "out.jsonl", "--batch", "b")
    end_batch(client, keys, 10)
    assert producer(*export).exit_code == 0
    entries = client.xrange("emo:results")
    client.xtrim("emo:results", minid=entries[4][0], approximate=False)
    said = producer(*export)
    assert said.exit_code == 3
    assert said.stderr.startswith("6 result(s) in out.jsonl\nbatch b: 4 of 10 ends are no longer ")
    client.delete(keys.result("b7"), keys.result("b8"))
    said = producer(*export)
    assert said.exit_code == 3
    assert "no key, scores or lists of 2 of them: their results have expired" in said.stderr
    assert "batch b: 4 of 10 ends are no longer kept" in said.stderr
    client.delete("emo:batch:b")
    said = producer(*export)
    assert (said.exit_code, "batch b: unknown, or expired" in said.stderr) == (3, True)


def test_runs_of_one_job_do_not_stand_for_others(
    client: Any, keys: Keys, producer: Commands
) -> None:
    """A row for each run, and each job's last is counted, whatever is in the file besides."""
    end_batch(client, keys, 3, ending=FAILED)
    streams = new_streams(JobStreams, client, keys, "two", 30)
    for _ in range(3):
        producer("submit", "x.wav", "--job", "b2", "--batch", "b")
        streams.finish([(begun, FAILED) for begun in streams.begin(streams.read(1))])
    export = ("export", "--to-file", "out.jsonl", "--batch", "b")
    assert (producer(*export).exit_code, len(read(Path("out.jsonl")))) == (0, 6)
    client.xtrim("emo:results", minid=client.xrange("emo:results")[2][0], approximate=False)
    said = producer(*export)
    assert (said.exit_code, len(read(Path("out.jsonl")))) == (3, 4)
    assert "batch b: 2 of 3 ends are no longer kept" in said.stderr


def test_a_part_of_a_batch_is_no_batch_that_is_not_whole(
    client: Any, keys: Keys, producer: Commands
) -> None:
    """By time it was chosen."""
    end_batch(client, keys, 3)
    said = producer("export", "--to-file", "out.jsonl", "--batch", "b", "--from", "2999-01-01")
    assert (said.exit_code, said.stderr) == (0, "0 result(s) in out.jsonl\n")
    said = producer("export", "--to-file", "out.jsonl", "--batch", "b", "--to", "1h")
    assert (said.exit_code, said.stderr) == (0, "0 result(s) in out.jsonl\n")


def test_what_cannot_be_exported(producer: Commands, tmp_path: Path) -> None:
    """It says why, with a status of its own."""
    for arguments, why in (
        (("export",), "name either"),
        (("export", "--to-key", "a.txt"), "must end with"),
        (("export", "--to-key", "a.csv", "--from", "yesterday"), "is no time"),
        (("export", "--to-key", "a.csv", "--batch", "a b"), "does not match"),
    ):
        said = producer(*arguments)
        assert said.exit_code == 2
        assert why in said.stderr
    said = producer("export", "--to-key", "../a.csv")
    assert (said.exit_code, "leaves the store" in said.stderr) == (1, True)


def test_times() -> None:
    """Dates are UTC unless they say otherwise."""
    assert moment_ms("2026-11-27") == 1795737600000
    assert moment_ms("2026-11-27T01:00+01:00") == 1795737600000
    before = 1000 * (time.time() - 3600)
    assert before - 1 <= moment_ms("1h") <= 1000 * (time.time() - 3600) + 1


@pytest.mark.parametrize("written", list(Format))
def test_many_rows_are_not_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Format
) -> None:
    """Twelve groups of rows take no more than three."""
    monkeypatch.setattr("producer.export.writers._GROUP_ROWS", 500)
    event = {"job": "j", "status": "done", "run": "1", "finished_at_ms": "1795737600000"}
    result = {"label": "happy", "scores": json.dumps({str(n): 0.1 for n in range(9)}), "run": "1"}
    write(rows_of([Ended("1-1", event, result)]), tmp_path / "first", written)  # imports
    peaks = []
    for count in (1_500, 6_000):
        ends = (Ended("1-1", event, {**result, "key": f"{n}.wav"}) for n in range(count))
        tracemalloc.start()
        assert write(rows_of(ends), tmp_path / "out", written) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000


def test_results_that_nobody_understands_stop_nothing(tmp_path: Path) -> None:
    """A hash may have been written by anyone."""
    event = {"job": "j", "status": "done"}
    odd = {"score": "high", "scores": "[", "segments": "{", "run": "x" * 40, "attempts": "9" * 40}
    for written in Format:
        rows = rows_of([Ended("1-1", event, {**odd, "finished_at_ms": "9" * 30})])
        assert write(rows, tmp_path / "out", written) == 1


def test_uploads_are_purged_by_age(producer: Commands, tmp_path: Path) -> None:
    """What `submit` uploaded, and nothing else; named first, then deleted."""
    store = tmp_path / "store"
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"x" * 1000)
    for _ in range(2):
        assert producer("submit", str(clip)).exit_code == 0
    (old, new) = sorted(path for path in store.rglob("clip.wav"))
    others = [store / "calls.wav", store / "uploads" / "by-hand.wav", store / "uploads/x/y.wav"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.touch()
    for path in (old, *others):
        os.utime(path, (1e9, 1e9))
    key = str(old.relative_to(store))
    asked = producer("purge-uploads", "--older-than", "1d")
    assert (asked.stdout, old.exists()) == (f"{key}\n", True)
    assert asked.stderr == "1 object(s) of 0.0 MB would be deleted: repeat it with --delete\n"
    done = producer("purge-uploads", "--older-than", "1d", "--delete")
    assert (done.stdout, done.stderr) == (f"{key}\n", "1 object(s) of 0.0 MB deleted\n")
    assert not old.parent.exists()
    assert new.exists()
    assert all(other.exists() for other in others)
    assert producer("purge-uploads", "--older-than", "1d").stdout == ""
    assert producer("purge-uploads").exit_code == 2
