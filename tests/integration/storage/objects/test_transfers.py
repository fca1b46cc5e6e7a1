"""Objects in parts, in a directory and on a real S3 server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import AccessDenied, InvalidJob, ObjectNotFound
from storage.objects.store import ObjectStore, open_store
from storage.objects.transfers import PART_BYTES, Transfers, transfers_of
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server

KEY = "uploads/console/one/a call.wav"
REST = 1234
WHOLE = os.urandom(PART_BYTES) + os.urandom(REST)


@pytest.fixture(scope="module", params=["directory", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectStore]:
    """An empty store of each kind."""
    root = tmp_path_factory.mktemp("store")
    if request.param == "directory":
        yield open_store(root.as_uri())
        return
    (root / "audio").mkdir()
    with s3_server(root) as server:
        yield open_store(server.url("audio"), access_key=ACCESS_KEY, secret_key=SECRET_KEY)


@pytest.fixture
def transfers(store: ObjectStore) -> Transfers:
    """The store's."""
    return transfers_of(store)


def test_parts_become_one_object(store: ObjectStore, transfers: Transfers) -> None:
    """Nobody sees it before the end; then it is whole, and ranges of it can be read."""
    upload = transfers.begin(KEY)
    transfers.append(KEY, upload, 0, WHOLE[:PART_BYTES])
    assert transfers.parts(KEY, upload) == 1
    transfers.append(KEY, upload, 1, WHOLE[PART_BYTES:])
    with pytest.raises(ObjectNotFound):
        store.fetch(KEY, max_bytes=2**30)
    transfers.finish(KEY, upload, len(WHOLE))
    transfers.finish(KEY, upload, len(WHOLE))  # a lost answer: it is asked again
    assert transfers.size(KEY) == len(WHOLE)
    assert b"".join(transfers.read(KEY, PART_BYTES - 5, 10)) == WHOLE[PART_BYTES - 5 :][:10]
    with store.fetch(KEY, max_bytes=2**30) as blob:
        assert os.pread(blob.fd, blob.size, 0) == WHOLE


def test_another_process_goes_on_with_it(store: ObjectStore, transfers: Transfers) -> None:
    """Key and id are all that it needs, and a part that was sent twice counts once."""
    key = "uploads/console/two/b.wav"
    upload = transfers.begin(key)
    transfers.append(key, upload, 0, WHOLE[:PART_BYTES])
    anew = transfers_of(store)
    assert anew.parts(key, upload) == 1
    anew.append(key, upload, 0, WHOLE[:PART_BYTES])
    anew.append(key, upload, 1, WHOLE[PART_BYTES:])
    anew.finish(key, upload, len(WHOLE))
    assert b"".join(anew.read(key, 0, len(WHOLE))) == WHOLE


def test_what_is_missing_is_not_hidden(transfers: Transfers) -> None:
    """An upload is not ended before all of it has come."""
    key = "uploads/console/three/c.wav"
    upload = transfers.begin(key)
    transfers.append(key, upload, 0, WHOLE[:PART_BYTES])
    with pytest.raises(InvalidJob, match="send the rest"):
        transfers.finish(key, upload, len(WHOLE))
    transfers.abort(key, upload)


def test_an_upload_that_was_given_up_is_gone(transfers: Transfers) -> None:
    """Aborting it twice is harmless, and nothing can be added or made of it."""
    key = "uploads/console/four/d.wav"
    upload = transfers.begin(key)
    transfers.append(key, upload, 0, b"begun")
    transfers.abort(key, upload)
    transfers.abort(key, upload)
    with pytest.raises(ObjectNotFound):
        transfers.append(key, upload, 0, b"again")
    with pytest.raises(ObjectNotFound):
        transfers.finish(key, upload, 5)


def test_a_directory_is_not_left(tmp_path: Path) -> None:
    """Neither by the key nor by what is given as an upload's id."""
    transfers = transfers_of(open_store(tmp_path.as_uri()))
    with pytest.raises(AccessDenied):
        transfers.begin("../outside.wav")
    with pytest.raises(InvalidJob, match="no upload"):
        transfers.append("a.wav", "../../etc", 0, b"")
    with pytest.raises(AccessDenied):
        transfers.begin("half a pair \ud800.wav")  # no file can be called that


def test_a_gap_is_refused_in_a_directory(tmp_path: Path) -> None:
    """A file with a hole in it would look complete."""
    transfers = transfers_of(open_store(tmp_path.as_uri()))
    upload = transfers.begin("a.wav")
    with pytest.raises(InvalidJob, match="in front"):
        transfers.append("a.wav", upload, 2, b"late")


def test_an_upload_whose_id_was_lost_is_found_again_in_a_directory(tmp_path: Path) -> None:
    """Whoever began it died before the id was noted: nothing of it is left beside the object."""
    transfers = transfers_of(open_store(tmp_path.as_uri()))
    transfers.begin("a/b.wav")
    upload = transfers.begin("a/b.wav")
    other = transfers.begin("a/c.wav")
    transfers.append("a/b.wav", upload, 0, b"all")
    transfers.finish("a/b.wav", upload, 3)
    transfers.abort("a/c.wav", other)
    assert [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()] == [b"all"]
