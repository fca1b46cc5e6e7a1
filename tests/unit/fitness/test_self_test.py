"""The self-test: descriptors, the spool and the stores as they are."""

import os
import shutil
from pathlib import Path

import pytest

from storage.errors import ObjectNotFound, StorageUnavailable
from storage.objects.directory import DirectoryStore
from storage.objects.store import open_store
from tests.support.descriptors import no_descriptors
from tests.support.mounts import mounted
from tests.support.s3_server import http_answer, scripted_server
from worker.audio.room import Spool
from worker.fitness.self_test import SelfTest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a store with an object in it."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.wav").write_bytes(b"RIFF")
    return tmp_path / "store"


@pytest.fixture
def a_test(tmp_path: Path, root: Path) -> SelfTest:
    """The test of a worker with its spool beside its store."""
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool", 1 << 20)
    return SelfTest(check_spool=spool.check, stores=[DirectoryStore(root)])


def test_a_machine_that_is_well_passes(a_test: SelfTest) -> None:
    """And leaves nothing open."""
    before = os.listdir("/proc/self/fd")
    assert a_test.machine() is None
    assert a_test.everything() is None
    assert os.listdir("/proc/self/fd") == before


def test_a_store_that_vanished_is_found(a_test: SelfTest, root: Path) -> None:
    """It is the machine that lost it, and it passes when it is back."""
    root.rename(root.parent / "away")
    finding = a_test.machine()
    assert finding
    assert not finding.away
    assert str(root) in finding.reason
    (root.parent / "away").rename(root)
    assert a_test.machine() is None


def test_a_spool_that_vanished_is_found(a_test: SelfTest, tmp_path: Path) -> None:
    """The reason names the setting."""
    shutil.rmtree(tmp_path / "spool")
    finding = a_test.machine()
    assert finding
    assert "EMO_SPOOL_DIR" in finding.reason


def test_want_of_descriptors_is_found(a_test: SelfTest) -> None:
    """Before anything else, since the others would fail of it too."""
    with no_descriptors():
        finding = a_test.everything()
    assert finding
    assert "ulimit -n" in finding.reason


def test_what_lies_under_a_mount_that_is_gone_is_no_store(tmp_path: Path) -> None:
    """An empty directory stays behind, in which no object is found: no job may fail of that."""
    store = DirectoryStore(tmp_path)
    with mounted(tmp_path, size_bytes=1 << 20):
        store.serves()
    with pytest.raises(StorageUnavailable, match="not mounted"):
        store.fetch("a.wav", max_bytes=10)
    with pytest.raises(StorageUnavailable, match="not mounted"):
        store.serves()
    with pytest.raises(ObjectNotFound):  # one that never was a mount may be empty
        DirectoryStore(tmp_path).fetch("a.wav", max_bytes=10)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"),
        http_answer("404 Not Found", b"<Error><Code>NoSuchBucket</Code></Error>"),
        http_answer("403 Forbidden"),
        http_answer("200 OK", b"somebody stored it"),
        http_answer("200 OK"),
    ],
)
def test_an_s3_server_that_answers_serves(answer: bytes) -> None:
    """That there is no such object, or that we may not see it, is an answer."""
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        test = SelfTest(check_spool=lambda: None, stores=[open_store(server.url("bucket"))])
        assert test.everything() is None
        assert server.requests == ["GET /bucket/emostream-probe HTTP/1.1"]


def test_an_s3_server_that_does_not_serve_is_away() -> None:
    """For everybody; and the machine alone, which asks no server, is well."""
    answer = http_answer("503 Service Unavailable")
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        test = SelfTest(check_spool=lambda: None, stores=[open_store(server.url("bucket"))])
        assert test.machine() is None
        refused = test.everything()
    unreachable = test.everything()
    assert refused
    assert unreachable
    assert refused.away
    assert unreachable.away
