"""The fetch stage asks the store for what the job names, within the limits it was given."""

import json
from pathlib import Path

import pytest

from storage.errors import InvalidJob, JobError, ObjectNotFound, ObjectTooLarge
from storage.objects.directory import DirectoryStore
from storage.wire.messages import Job
from storage.wire.parts import Parts, SegmentAsked
from tests.support.blobs import contents
from worker.clip import SEGMENT_BYTES
from worker.stages.fetch import Fetch


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """A store that holds one object of 4 bytes."""
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    return DirectoryStore(tmp_path)


def test_fetch_gives_the_bytes_and_admits_their_size(store: DirectoryStore) -> None:
    """A job's object comes back as a blob, after the byte budget heard its size."""
    admitted: list[int] = []
    fetch = Fetch(store, max_object_bytes=4, admit=admitted.append)
    with fetch(Job("1-0", "a.wav")).blob as blob:
        assert contents(blob) == b"RIFF"
    assert admitted == [4]


def test_fetch_enforces_the_size_limit(store: DirectoryStore) -> None:
    """An object over the limit fails its job, and takes nothing from the budget."""
    admitted: list[int] = []
    with pytest.raises(ObjectTooLarge, match="EMO_MAX_OBJECT_BYTES"):
        Fetch(store, max_object_bytes=3, admit=admitted.append)(Job("1-0", "a.wav"))
    assert admitted == []


def test_fetch_passes_the_bucket_on(store: DirectoryStore) -> None:
    """The job's bucket reaches the store, which here refuses it."""
    with pytest.raises(InvalidJob, match="'bucket'"):
        Fetch(store, max_object_bytes=4, admit=lambda size: None)(Job("1-0", "a.wav", "calls"))


def test_segments_may_lie_in_an_object(tmp_path: Path, store: DirectoryStore) -> None:
    """They are read before the audio, and the memory that they take is charged with it."""
    listed = [{"start_s": 0, "end_s": 1.5, "speaker": "A"}, {"start_s": 2, "end_s": 3}]
    (tmp_path / "turns.json").write_text(json.dumps(listed))
    admitted: list[int] = []
    job = Job("1-0", "a.wav", parts=Parts(segments_from="turns.json"))
    fetched = Fetch(store, max_object_bytes=4, admit=admitted.append)(job)
    assert fetched.parts.segments == (SegmentAsked(0, 1.5, "A"), SegmentAsked(2, 3))
    assert contents(fetched.blob) == b"RIFF"
    assert admitted == [4 + 2 * SEGMENT_BYTES]
    fetched.close()


@pytest.mark.parametrize(
    ("listed", "error", "says"),
    [
        (b"not json", InvalidJob, "'segments_from': Invalid JSON"),
        (b"\xff", InvalidJob, "'segments_from'"),
        (b'[{"start_s":1,"end_s":0}]', InvalidJob, "'segments_from': item 0"),
        (b" " * (2 * 1024**2 + 1), InvalidJob, "'segments_from': the list is larger than 2097152"),
        (None, ObjectNotFound, "'segments_from': .*turns.json"),
    ],
)
def test_segments_that_are_none_fail_the_job(
    tmp_path: Path, store: DirectoryStore, listed: bytes | None, error: type[JobError], says: str
) -> None:
    """Whatever is wrong with the list is told, and the audio is not asked for."""
    if listed is not None:
        (tmp_path / "turns.json").write_bytes(listed)
    admitted: list[int] = []
    job = Job("1-0", "a.wav", parts=Parts(segments_from="turns.json"))
    with pytest.raises(error, match=says):
        Fetch(store, max_object_bytes=4, admit=admitted.append)(job)
    assert admitted == []
