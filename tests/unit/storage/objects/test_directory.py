"""A directory as an object store: what is below its root can be read, and nothing else."""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    ObjectTooLarge,
    StorageUnavailable,
)
from storage.objects.directory import DirectoryStore
from tests.support.blobs import contents

NOBODY = 65_534
PR_SET_DUMPABLE = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store's root, beside a secret that must not be read."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.wav").write_bytes(b"RIFF")
    return root


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    """The store over `root`."""
    return DirectoryStore(root)


def read(store: DirectoryStore, key: str) -> bytes:
    """The object's bytes."""
    with store.fetch(key, max_bytes=1000) as blob:
        return contents(blob)


@pytest.mark.parametrize("data", [b"", b"RIFF" * 1000])
def test_put_then_fetch(store: DirectoryStore, data: bytes) -> None:
    """What was put is fetched again, and the parent directories are made."""
    store.put("calls/2026/a.wav", memoryview(data), content_type="audio/wav")
    with store.fetch("calls/2026/a.wav", max_bytes=4000) as blob:
        assert (blob.size, contents(blob)) == (len(data), data)


@pytest.mark.parametrize("key", ["a b.wav", "a+b%20c.wav", "généré/感情.wav", " ", "...", "a\nb"])
def test_keys_are_file_names_as_they_stand(store: DirectoryStore, root: Path, key: str) -> None:
    """No character of a key is decoded, trimmed or replaced."""
    store.put(key, b"RIFF", content_type="audio/wav")
    assert (root / key).read_bytes() == read(store, key) == b"RIFF"


def test_delete(store: DirectoryStore, root: Path) -> None:
    """The object goes, and its directory with the last in it; once more is no error."""
    store.put("new/a.wav", b"RIFF", content_type="audio/wav")
    store.put("new/b.wav", b"RIFF", content_type="audio/wav")
    for _ in range(2):
        store.delete("new/a.wav")
    assert [path.name for path in (root / "new").iterdir()] == ["b.wav"]
    store.delete("new/b.wav")
    store.delete("nowhere/b.wav")
    assert not (root / "new").exists()
    store.put("top.wav", b"RIFF", content_type="audio/wav")
    store.delete("top.wav")
    assert root.is_dir()


def test_delete_touches_nothing_outside(store: DirectoryStore, root: Path) -> None:
    """By no path and by no link; a link itself may go."""
    (root / "out").symlink_to(root.parent)
    (root / "link.wav").symlink_to(root.parent / "secret")
    for key in ("../secret", "out/secret", str(root.parent / "secret")):
        with pytest.raises(AccessDenied):
            store.delete(key)
    store.delete("link.wav")
    assert not (root / "link.wav").is_symlink()
    assert (root.parent / "secret").read_bytes() == b"secret"


def test_put_replaces_the_whole_object(store: DirectoryStore, root: Path) -> None:
    """A second put replaces the object; whoever had the first open still reads the first."""
    with store.fetch("a.wav", max_bytes=4) as first:
        store.put("a.wav", b"new", content_type="audio/wav")
        assert contents(first) == b"RIFF"
    assert read(store, "a.wav") == b"new"
    assert os.listdir(root) == ["a.wav"]


def test_put_that_fails_leaves_nothing(store: DirectoryStore, root: Path) -> None:
    """Where the object cannot be put in place, no temporary file stays behind."""
    (root / "calls").mkdir()
    with pytest.raises(AccessDenied, match="Is a directory"):
        store.put("calls", b"RIFF", content_type="audio/wav")
    assert sorted(os.listdir(root)) == ["a.wav", "calls"]


@pytest.mark.parametrize("key", ["calls/", "", "calls/."])
def test_put_needs_a_file_name(store: DirectoryStore, key: str) -> None:
    """A key that names no file is an invalid job."""
    with pytest.raises(InvalidJob, match="file name"):
        store.put(key, b"RIFF", content_type="audio/wav")


@pytest.mark.parametrize(
    "key", ["b.wav", "a.wav/b", "calls/b.wav", "", ".", "x" * 300, "a\0b", "\ud800"]
)
def test_missing_object(store: DirectoryStore, key: str) -> None:
    """A key that leads to no file is not found, whatever the system's word for it."""
    with pytest.raises(ObjectNotFound, match="key "):
        store.fetch(key, max_bytes=1000)


@pytest.mark.parametrize(
    "key", ["../secret", "calls/../../secret", "/etc/passwd", "..", "a/../a.wav"]
)
def test_key_that_leaves_the_root(store: DirectoryStore, root: Path, key: str) -> None:
    """An absolute key or one with '..' is refused for reading and for writing."""
    with pytest.raises(AccessDenied, match="leaves the store"):
        store.fetch(key, max_bytes=1000)
    with pytest.raises(AccessDenied, match="leaves the store"):
        store.put(key, b"", content_type="audio/wav")
    assert (root.parent / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize(
    "target", ["../secret", "../root-2/secret", "/etc/passwd", "/proc/self/root"]
)
def test_symlink_that_leaves_the_root(store: DirectoryStore, root: Path, target: str) -> None:
    """A link to the outside is refused, also to a directory whose name begins like the root's."""
    (root.parent / "root-2").mkdir()
    (root.parent / "root-2" / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(target)
    with pytest.raises(AccessDenied, match="symlink"):
        store.fetch("link", max_bytes=1000)


def test_symlinked_directory_that_leaves_the_root(store: DirectoryStore, root: Path) -> None:
    """Nothing is read, written or made behind a directory link to the outside."""
    (root / "out").symlink_to("..")
    with pytest.raises(AccessDenied, match="symlink"):
        store.fetch("out/secret", max_bytes=1000)
    with pytest.raises(AccessDenied, match="symlink"):
        store.put("out/made/a.wav", b"", content_type="audio/wav")
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]


def test_symlinks_inside_the_root_are_followed(store: DirectoryStore, root: Path) -> None:
    """A link that stays below the root is read, and a linked directory written, as usual."""
    (root / "calls").mkdir()
    (root / "latest").symlink_to("calls")
    (root / "link.wav").symlink_to(root / "a.wav")
    assert read(store, "link.wav") == b"RIFF"
    store.put("latest/b.wav", b"b", content_type="audio/wav")
    assert (root / "calls" / "b.wav").read_bytes() == b"b"


def test_symlink_loop(store: DirectoryStore, root: Path) -> None:
    """A link to itself is refused."""
    (root / "loop").symlink_to("loop")
    with pytest.raises(AccessDenied, match="symbolic links"):
        store.fetch("loop", max_bytes=1000)


def test_root_may_be_a_symlink(root: Path) -> None:
    """The operator's own link to the root is no escape."""
    (root.parent / "link").symlink_to("root")
    assert read(DirectoryStore(root.parent / "link"), "a.wav") == b"RIFF"


def test_what_is_no_file(store: DirectoryStore, root: Path) -> None:
    """A FIFO, a socket and a device are refused at once; a directory is not an object."""
    os.mkfifo(root / "fifo")
    (root / "calls").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    for key in ("fifo", "socket"):
        with pytest.raises(AccessDenied, match="only files"):
            store.fetch(key, max_bytes=1000)
    with pytest.raises(AccessDenied, match="only files"):
        DirectoryStore(Path("/dev")).fetch("zero", max_bytes=1000)
    with pytest.raises(ObjectNotFound, match="directory"):
        store.fetch("calls", max_bytes=1000)


def test_limit_and_budget(store: DirectoryStore) -> None:
    """The size is checked against the limit first, then the budget hears of it."""
    admitted: list[int] = []
    store.fetch("a.wav", max_bytes=4, admit=admitted.append).close()
    with pytest.raises(ObjectTooLarge, match="4 bytes"):
        store.fetch("a.wav", max_bytes=3, admit=admitted.append)
    assert admitted == [4]


def test_nothing_stays_open(store: DirectoryStore, root: Path) -> None:
    """However a call ends, every descriptor is closed again."""
    (root / "link").symlink_to("/etc/passwd")

    def refuse(size: int) -> None:
        raise RuntimeError(f"no room for {size}")

    before = os.listdir("/proc/self/fd")
    store.put("calls/b.wav", b"b", content_type="audio/wav")
    store.fetch("calls/b.wav", max_bytes=4).close()
    store.check()
    for key, max_bytes in (("link", 4), ("missing", 4), ("a.wav", 3), ("a.wav", 4)):
        with pytest.raises((JobError, RuntimeError)):
            store.fetch(key, max_bytes=max_bytes, admit=refuse)
    assert os.listdir("/proc/self/fd") == before


def test_bucket_is_refused(store: DirectoryStore) -> None:
    """A job that names a bucket is invalid here, and the message says what to do instead."""
    with pytest.raises(InvalidJob, match="no buckets; put 'calls' in front of the key"):
        store.fetch("a.wav", bucket="calls", max_bytes=4)
    with pytest.raises(InvalidJob, match="no buckets"):
        store.put("a.wav", b"", content_type="audio/wav", bucket="calls")


def test_missing_root_is_an_outage(root: Path) -> None:
    """A root that is not mounted fails no job for good; once it is there, it is used."""
    store = DirectoryStore(root / "mount")
    for call in (store.check, lambda: store.fetch("a.wav", max_bytes=4)):
        with pytest.raises(StorageUnavailable, match="EMO_STORE"):
            call()
    (root / "mount").mkdir()
    store.check()
    store.put("a.wav", b"RIFF", content_type="audio/wav")
    assert read(store, "a.wav") == b"RIFF"


def test_root_that_is_a_file(root: Path) -> None:
    """A file in the place of the root is reported as such."""
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        DirectoryStore(root / "a.wav").check()


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Give up the superuser's rights for a while: the superuser may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    # Giving up rights hides a process from /proc, which the store opens descriptors through.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        os.seteuid(0)


def test_rights_are_respected() -> None:
    """A file or a root that may not be read is an access error that says what to do."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        with as_ordinary_user():
            root = Path(place) / "root"
            root.mkdir()
            (root / "a.wav").write_bytes(b"RIFF")
            store = DirectoryStore(root)
            assert read(store, "a.wav") == b"RIFF"
            (root / "a.wav").chmod(0)
            with pytest.raises(AccessDenied, match="rights"):
                store.fetch("a.wav", max_bytes=4)
            root.chmod(0)
            with pytest.raises(AccessDenied, match="read and search rights"):
                store.check()
            root.chmod(0o700)
