"""`python -m producer bulk`, in this process, with manifests of each kind."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from producer.cli import app
from producer.control.manifest import read
from producer.export.formats import Format
from storage.queue.bulks import BulkStatus
from storage.redis.embedded import EmbeddedRedis
from tests.support.control import Control, files

Commands = Callable[..., Result]
ROWS = [{"key": f"calls/{n}é.wav", "labels": "happy,sad" if n % 2 else ""} for n in range(25)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The audio store."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def producer(
    client: Any,
    redis_server: EmbeddedRedis,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Commands:
    """The command line on an empty server."""
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    environment = {
        "EMO_REDIS_URL": redis_server.url,
        "EMO_STORE": f"file://{store}",
        "EMO_OUTPUT_STORE": f"file://{outputs}",
    }
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


@pytest.fixture
def control(
    client: Any, redis_server: EmbeddedRedis, store: Path, tmp_path: Path
) -> Iterator[Control]:
    """Control, with pages of ten rows."""
    made = Control(
        redis_server.url, store, bulk_page_keys=10, output_store=f"file://{tmp_path}/outputs"
    )
    yield made
    made.close()


def write(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    """The rows as their kind of manifest."""
    match path.suffix:
        case ".csv":
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
                table.writeheader()
                table.writerows(rows)
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        case _:
            import pyarrow as pa  # noqa: PLC0415 (an extra)
            import pyarrow.parquet as pq  # noqa: PLC0415

            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    return path


def sent(client: Any) -> list[dict[str, str]]:
    """The jobs in the lane."""
    return [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in client.xrange("emo:jobs:bulk")
    ]


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "list.parquet"])
@pytest.mark.parametrize("place", ["uploaded", "in the store"])
def test_a_manifest_is_sent_row_by_row(
    producer: Commands,
    control: Control,
    client: Any,
    redis_server: EmbeddedRedis,
    store: Path,
    tmp_path: Path,
    name: str,
    place: str,
) -> None:
    """Each row's own fields come before those of the whole; and each page may be another's."""
    path = write((tmp_path if place == "uploaded" else store) / name, ROWS)
    said = producer("bulk", "submit", "--manifest", name, "--id", "b", "--labels", "angry")
    assert said.stdout == "b\n"
    assert ("in EMO_STORE" in said.stderr) == (place != "uploaded")
    path.unlink() if place == "uploaded" else None
    uploaded = tmp_path / "outputs" / "manifests" / "b" / name
    assert uploaded.exists() == (place == "uploaded")
    outputs = f"file://{tmp_path}/outputs"
    for _ in range(3):  # each opens the manifest anew, where the one before left it
        fresh = Control(redis_server.url, store, bulk_page_keys=10, output_store=outputs)
        fresh.round()
        fresh.close()
    assert control.status("b") is BulkStatus.DONE
    jobs = sent(client)
    assert [job["key"] for job in jobs] == [row["key"] for row in ROWS]
    assert [job["labels"] for job in jobs[:2]] == ["angry", "happy,sad"]
    assert {job["batch"] for job in jobs} == {"b"}
    assert not uploaded.exists()


def test_rows_that_no_job_can_be_made_of_are_told(
    producer: Commands, control: Control, client: Any, tmp_path: Path
) -> None:
    """The others are sent; and a row that comes twice is one job."""
    lines = [
        b'{"key": "a.wav"}',
        b"not json",
        b"[1]",
        b'{"file": "b.wav"}',
        b'{"key": "c.wav", "channel": "nine"}',
        b'{"key": "d.wav", "labels": {"happy": 1}}',
        b'{"key": "\xff.wav"}',
        b'{"key": "a.wav"}',
        b'{"key": "e.wav", "segments": [{"start_s": 0, "end_s": 1.5}], "job": "mine"}',
        b"",
    ]
    (tmp_path / "list.jsonl").write_bytes(b"\n".join(lines))
    producer("bulk", "submit", "--manifest", "list.jsonl", "--id", "b")
    control.run()
    assert [job["key"] for job in sent(client)] == ["a.wav", "e.wav"]
    assert sent(client)[1]["job"] == "mine"
    shown = json.loads(producer("bulk", "show", "b", "--json").stdout)
    assert (shown["status"], shown["keys"], shown["refused"]) == ("done", 3, 6)
    assert (shown["jobs"], shown["open"]) == (2, 2)
    told = [row["row"] for row in shown["refused_rows"]]
    assert told == [f"line {number}" for number in (7, 6, 5, 4, 3, 2)]
    text = producer("bulk", "show", "b").stdout
    assert "line 4: field 'key': missing" in text
    assert "line 5: field 'channel'" in text


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_it_comes(
    producer: Commands, control: Control, client: Any, tmp_path: Path, delimiter: str
) -> None:
    """Whatever separates the cells; quoted lines and cells; columns of no use are named."""
    rows = [
        {"customer": "1", "key": "a,b;c.wav", "segments": json.dumps([{"start_s": 0, "end_s": 2}])},
        {"customer": "two\nlines", "key": "d.wav", "segments": ""},
    ]
    write(tmp_path / "list.csv", rows, delimiter)
    said = producer("bulk", "submit", "--manifest", "list.csv", "--id", "b")
    assert said.stderr == "list.csv: not used: customer\n"
    control.run()
    assert [job["key"] for job in sent(client)] == ["a,b;c.wav", "d.wav"]
    assert "segments" in sent(client)[0]
    assert "segments" not in sent(client)[1]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("list.csv", b"file,label\na.wav,x\n", "one of them `key`"),
        ("list.csv", b"", "one of them `key`"),
        ("list.parquet", b"PAR1", "no Parquet file"),
        ("list.txt", b"a.wav\n", "must end with .csv"),
    ],
)
def test_what_is_no_manifest_is_refused(
    producer: Commands, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    """Before anything is begun."""
    (tmp_path / name).write_bytes(content)
    said = producer("bulk", "submit", "--manifest", name, "--id", "b")
    assert said.exit_code in (1, 2)
    assert why in said.stderr
    assert producer("bulk", "show", "b").exit_code == 1


def test_a_manifest_that_is_replaced_is_not_gone_on_with(
    producer: Commands, control: Control, redis_server: EmbeddedRedis, store: Path
) -> None:
    """Its cursor is a place in the old one."""
    write(store / "list.csv", ROWS)
    producer("bulk", "submit", "--manifest", "list.csv", "--id", "b")
    control.round()
    write(store / "list.csv", ROWS[:20])
    fresh = Control(redis_server.url, store, bulk_page_keys=10)
    fresh.run()
    assert fresh.status("b") is BulkStatus.FAILED
    assert "replaced" in producer("bulk", "show", "b").stdout
    fresh.close()


def test_bulks_by_commands(producer: Commands, control: Control, client: Any, store: Path) -> None:
    """Submitted, listed, paused, resumed and cancelled; and what cannot be done says why."""
    files(store / "a", 30)
    neither = producer("bulk", "submit")
    assert (neither.exit_code, neither.stderr) == (2, "name either --prefix or --manifest\n")
    assert producer("bulk", "show", "b").stderr.startswith("bulk b: unknown")
    deadline = ("--deadline-seconds", "60")
    assert producer("bulk", "submit", "--prefix", "a/", "--id", "b", *deadline).stdout == "b\n"
    assert "choose another" in producer("bulk", "submit", "--prefix", "a/", "--id", "b").stderr
    made = producer("bulk", "submit", "--prefix", "a/", "--lane", "high").stdout.strip()
    control.round()
    assert {"deadline_ms"} <= set(sent(client)[0])
    assert producer("bulk", "pause", "b").stderr == "bulk b: is paused\n"
    assert "is paused; nothing was changed" in producer("bulk", "pause", "b").stderr
    control.run()
    rows = [json.loads(line) for line in producer("bulk", "list", "--json").stdout.splitlines()]
    assert [(row["bulk"], row["status"], row["keys"]) for row in rows] == [
        (made, "done", 30),
        ("b", "paused", 10),
    ]
    assert "paused" in producer("bulk", "list").stdout
    assert producer("bulk", "resume", "b").stderr == "bulk b: goes on\n"
    control.round()
    assert "20 job(s)" in producer("bulk", "cancel", "b").stderr
    control.run()
    assert control.status("b") is BulkStatus.CANCELLED
    assert producer("bulk", "cancel", "b").exit_code == 0  # its jobs have not ended yet
    assert "is done; nothing was changed" in producer("bulk", "pause", made).stderr


def test_a_field_is_of_one_kind_from_the_beginning_to_the_end(
    producer: Commands, control: Control, store: Path
) -> None:
    """Or it is not there yet: as programs read it, by either command."""
    files(store / "a", 30)
    producer("bulk", "submit", "--prefix", "a/", "--id", "b")
    kinds: dict[str, set[type]] = {}
    for act in (lambda: None, control.round, control.run):
        act()
        for words in (("show", "b"), ("list",)):
            told = json.loads(producer("bulk", *words, "--json").stdout)
            for name, value in told.items():
                kinds.setdefault(name, set()).add(type(value))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
    times = [name for name in kinds if name.endswith("_at_ms")]
    assert sorted(times) == ["created_at_ms", "ended_at_ms", "updated_at_ms"]
    assert all(kinds[name] == {int} for name in times)


def test_a_bulk_with_more_keys_than_events_are_kept_says_so(
    producer: Commands, control: Control, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is exported; one that has no more, does not."""
    files(store / "a", 21)
    producer("bulk", "submit", "--prefix", "a/", "--id", "b")
    control.run()
    monkeypatch.setenv("EMO_RESULTS_MAXLEN", "21")
    assert producer("bulk", "show", "b").stderr == ""
    monkeypatch.setenv("EMO_RESULTS_MAXLEN", "20")
    said = producer("bulk", "show", "b", "--json")
    assert "has 21 keys, and the last 20 ends of all jobs are kept" in said.stderr
    assert json.loads(said.stdout)["keys"] == 21


def test_what_a_bulk_is_of_is_told(producer: Commands, client: Any) -> None:
    """Also where its manifest is no file here, most often by a slip, and where it is everything."""
    sent = producer("bulk", "submit", "--manifest", "lists/monday.csv", "--id", "monday")
    assert (sent.exit_code, sent.stdout) == (0, "monday\n")
    assert "lists/monday.csv: is no file here" in sent.stderr
    assert producer("bulk", "submit", "--prefix", "", "--id", "all").exit_code == 0
    listed = producer("bulk", "list").stdout.splitlines()
    assert [line.split()[-1] for line in listed] == ["of", "(everything)", "lists/monday.csv"]


def test_an_open_quote_does_not_swallow_the_rest(tmp_path: Path) -> None:
    """It ends at the longest cell that there is, and that row is refused."""
    path = tmp_path / "list.csv"
    path.write_text('key\n"a.wav\n' + "b.wav\n" * 40_000)
    with path.open("rb") as file:
        rows = list(read(file, Format.CSV, ""))
    (fault,) = (row.fault for row in rows if row.fault)
    assert fault == "no CSV: field larger than field limit (131072)"
    assert len(rows) > 15_000
