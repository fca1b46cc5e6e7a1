"""The fetch stage asks the store for what the job names, within the limits it was given."""

from pathlib import Path

import pytest

from storage.errors import InvalidJob, ObjectTooLarge
from storage.objects.directory import DirectoryStore
from storage.wire.messages import Job
from tests.support.blobs import contents
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
