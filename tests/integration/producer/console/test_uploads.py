"""Files in parts into the store, and their jobs into the queue."""

import os
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.exceptions import RedisError
from starlette.testclient import TestClient

from producer.console import app, uploads
from producer.console.uploads import safe_name
from storage.objects.transfers import PART_BYTES
from storage.wire.messages import Keys
from tests.integration.producer.console.conftest import Open

BATCH = "monday"
WHOLE = os.urandom(PART_BYTES + 999)
JOB = "0123456789abcdef" * 2


def begin(page: TestClient, job: str = JOB, **asked: Any) -> Any:
    """The answer to the beginning of an upload."""
    told = {"batch": BATCH, "job": job, "name": "a call.wav", "size": len(WHOLE), **asked}
    return page.post("/api/uploads", json=told)


def put(page: TestClient, number: int, data: bytes, job: str = JOB) -> Any:
    """The answer to one part."""
    return page.put(f"/api/uploads/{BATCH}/{job}/{number}", content=data)


def send(page: TestClient, job: str = JOB, **asked: Any) -> None:
    """A whole file."""
    assert begin(page, job, **asked).json()["parts"] == 0
    assert put(page, 0, WHOLE[:PART_BYTES], job).json() == {"parts": 1}
    assert put(page, 1, WHOLE[PART_BYTES:], job).json() == {"parts": 2}
    assert page.post(f"/api/uploads/{BATCH}/{job}/finish").json()["state"] == "sent"


def files_in(store: Path) -> list[Path]:
    """Those that lie anywhere in the store, hidden ones too."""
    return [file for file in store.rglob("*") if file.is_file()]


def test_a_file_becomes_an_object_and_a_job(
    console: Open, store: Path, client: Any, keys: Keys
) -> None:
    """In its batch, with the options that were chosen; asking again changes nothing."""
    page = console()
    send(page, channel="each", segments="speech", want="embedding")
    assert page.post(f"/api/uploads/{BATCH}/{JOB}/finish").json()["state"] == "sent"
    ((_, fields),) = client.xrange(keys.lanes[1])
    key = fields[b"key"].decode()
    assert key == f"uploads/console/{JOB}/a_call.wav"
    assert (store / key).read_bytes() == WHOLE
    assert {name: fields[name.encode()].decode() for name in ("job", "batch", "channel")} == {
        "job": JOB,
        "batch": BATCH,
        "channel": "each",
    }
    assert fields[b"segments"] == b"speech"
    assert not client.hgetall(keys.uploads)


def test_an_object_whose_end_was_not_noted_is_gone_on_with(
    console: Open, client: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis, or the console, went between the object and its job: it is the same recording."""
    page = console()
    begin(page)
    put(page, 0, WHOLE[:PART_BYTES])
    put(page, 1, WHOLE[PART_BYTES:])

    def away(*_: object) -> None:
        raise RedisError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "submit", away)
        assert page.post(f"/api/uploads/{BATCH}/{JOB}/finish").status_code == 503
    anew = console()
    assert anew.get(f"/api/uploads/{BATCH}/{JOB}").json()["parts"] == 2
    told = begin(anew).json()
    assert (told["state"], told["parts"]) == ("uploading", 2)
    assert anew.post(f"/api/uploads/{BATCH}/{JOB}/finish").json()["state"] == "sent"
    assert [fields[b"job"] for _, fields in client.xrange(keys.lanes[1])] == [JOB.encode()]


def test_a_batch_is_found_again(console: Open) -> None:
    """By another page, with what was sent and what was not."""
    page = console()
    send(page)
    begin(page, "f" * 32, name="half.wav")
    found = console().get(f"/api/batches/{BATCH}").json()
    shown = {file["name"]: (file["state"], file["status"]) for file in found["files"]}
    assert shown == {"a call.wav": ("sent", "queued"), "half.wav": ("uploading", "")}
    assert found["counts"]["jobs"] == 1


def test_files_are_listed_in_the_order_in_which_they_came(console: Open) -> None:
    """On every page that is opened, and whatever became of each."""
    page = console()
    names = [f"{n}.wav" for n in range(40)]
    for name in names:
        begin(page, uuid.uuid4().hex, name=name)
    assert [file["name"] for file in page.get(f"/api/batches/{BATCH}").json()["files"]] == names


def test_a_page_goes_on_where_it_was(console: Open, store: Path) -> None:
    """After a restart of the console, with the parts that are there."""
    begin(console())
    put(console(), 0, WHOLE[:PART_BYTES])
    page = console()
    assert page.get(f"/api/uploads/{BATCH}/{JOB}").json()["parts"] == 1
    assert begin(page).json()["parts"] == 1
    put(page, 1, WHOLE[PART_BYTES:])
    page.post(f"/api/uploads/{BATCH}/{JOB}/finish")
    (file,) = files_in(store)
    assert file.read_bytes() == WHOLE


def test_what_was_given_up_leaves_nothing(
    console: Open, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page, or since nobody went on with it."""
    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.01)
    page = console()
    for job in ("a" * 32, "b" * 32):
        begin(page, job)
        put(page, 0, WHOLE[:PART_BYTES], job)
    assert len(files_in(store)) == 2
    page.delete(f"/api/uploads/{BATCH}/{'a' * 32}")
    assert len(files_in(store)) == 1
    with console(console_abandoned_seconds=0.001) as anew:
        states: list[str] = []
        while "abandoned" not in states:
            states = [file["state"] for file in anew.get(f"/api/batches/{BATCH}").json()["files"]]
    assert sorted(states) == ["abandoned", "cancelled"]
    assert files_in(store) == []
    assert put(page, 1, WHOLE[PART_BYTES:], "b" * 32).status_code == 409


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"size": 0}, "is empty"),
        ({"size": "12"}, "is empty"),
        ({"size": 2**40}, "EMO_CONSOLE_MAX_FILE_BYTES"),
        ({"name": "page.html"}, "that it is audio"),
        ({"name": "x" * 2000 + ".wav"}, "'name'"),
        ({"batch": ""}, "'batch'"),
        ({"batch": "no batch"}, "'batch'"),
        ({"job": "../../etc"}, "ids that the page has made"),
        ({"channel": "nine"}, "'channel'"),
        ({"want": "money"}, "'want'"),
        ({"segments": '[{"start_s": 3, "end_s": 1}]'}, "item 0"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_sent(
    asked: dict[str, Any], says: str, console: Open, store: Path
) -> None:
    """With a sentence that says what is wrong, and nothing in the store."""
    answer = begin(console(), **asked)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert files_in(store) == []


def test_a_part_has_the_length_it_must_have(console: Open) -> None:
    """Neither more, nor less, nor beyond the end."""
    page = console()
    begin(page)
    for number, data in ((0, b"short"), (1, WHOLE[:PART_BYTES]), (2, b"x"), (10**9, b"x")):
        assert put(page, number, data).status_code == 400
    assert page.get(f"/api/uploads/{BATCH}/{JOB}").json()["parts"] == 0
    assert page.post(f"/api/uploads/{BATCH}/{JOB}/finish").status_code == 400


def test_a_batch_takes_so_many_files(console: Open) -> None:
    """And then says what to do."""
    page = console(console_max_files=1)
    assert begin(page).status_code == 200
    answer = begin(page, "f" * 32)
    assert "begin another" in answer.json()["message"]


def test_listed_turns_go_with_the_job(console: Open, client: Any, keys: Keys, store: Path) -> None:
    """In it, or where they are long in an object beside the recording."""
    page = console()
    send(page, segments='[{"start_s": 0, "end_s": 1.5, "speaker": "A"}]')
    turns = [{"start_s": at, "end_s": at + 1, "speaker": f"speaker {at}"} for at in range(900)]
    send(page, "e" * 32, segments=str(turns).replace("'", '"'))
    (_, short), (_, long) = client.xrange(keys.lanes[1])
    assert short[b"segments"] == b'[{"start_s":0.0,"end_s":1.5,"speaker":"A"}]'
    assert b"segments" not in long
    assert b"speaker 899" in (store / long[b"segments_from"].decode()).read_bytes()


def test_nothing_known_is_said_so(console: Open) -> None:
    """The page then sends the file again."""
    page = console()
    assert put(page, 0, b"x").status_code == 410
    assert page.post(f"/api/uploads/{BATCH}/{JOB}/finish").status_code == 410


def test_full_lanes_are_said_to_be(console: Open) -> None:
    """And the same request enqueues it when there is room."""
    page = console(max_backlog=1)
    send(page)
    other = "d" * 32
    begin(page, other, size=3)
    put(page, 0, b"abc", other)
    answer = page.post(f"/api/uploads/{BATCH}/{other}/finish")
    assert (answer.status_code, answer.json()["error"]) == (503, "backlog_full")
    roomy = console()
    assert roomy.post(f"/api/uploads/{BATCH}/{other}/finish").json()["state"] == "sent"


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("a call.wav", "a_call.wav"),
        ("../../etc/passwd.wav", "passwd.wav"),
        ("C:\\calls\\one.mp3", "one.mp3"),
        (".hidden.wav", "hidden.wav"),
        ("录音 1.m4a", "录音_1.m4a"),
        ("a\x00b\u202e<script>.wav", "a_b__script_.wav"),
        ("é" * 300 + ".wav", "é" * 98 + ".wav"),
    ],
)
def test_names_are_made_safe(name: str, becomes: str) -> None:
    """As the last part of a key that any store and any shell can have."""
    assert safe_name(name) == becomes
    assert len(becomes.encode()) <= 200
    assert quote(becomes)
