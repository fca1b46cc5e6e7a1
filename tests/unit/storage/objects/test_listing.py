"""Objects of a directory listed, written from files and deleted."""

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import AccessDenied, InvalidJob, StorageUnavailable
from storage.objects import walk as walking
from storage.objects.directory import DirectoryStore

NAMES = ["a.wav", "a/x.wav", "a-b/q", "a0", "B", "é", "a/x/y.wav", "a/x.wav2", "ab/c"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with files whose order is not that of a walk."""
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def keys(root: Path, prefix: str = "", after: str = "") -> list[str]:
    """What is listed."""
    return [each.key for each in DirectoryStore(root).list(prefix, after=after)]


def expected(prefix: str = "", after: str = "") -> list[str]:
    """The same, as S3 orders keys: by their bytes."""
    names = sorted(NAMES, key=str.encode)
    return [name for name in names if name.startswith(prefix) and name.encode() > after.encode()]


@pytest.mark.parametrize("at_once", [1, 2, 10_000])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/x", "a/x/", "none/", "a.wav/"])
def test_keys_come_in_the_order_of_their_bytes(
    root: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, prefix: str
) -> None:
    """However few are in memory; and going on after any of them misses none."""
    monkeypatch.setattr(walking, "_AT_ONCE", at_once)
    assert keys(root, prefix) == expected(prefix)
    for after in NAMES:
        assert keys(root, prefix, after) == expected(prefix, after)


@given(prefix=st.text("a/-.x0", max_size=4), after=st.text("a/-.xy0b", max_size=6))
def test_any_prefix_and_any_place(
    tmp_path_factory: pytest.TempPathFactory, prefix: str, after: str
) -> None:
    """Also such as no key has."""
    root = tmp_path_factory.getbasetemp() / "listing"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if prefix.startswith("/") or ".." in prefix.split("/"):
        with pytest.raises(AccessDenied):
            keys(root, prefix, after)
    elif "//" not in prefix and "." not in prefix.split("/"):
        assert keys(root, prefix, after) == expected(prefix, after)


def test_what_is_listed(root: Path) -> None:
    """Size and time are the file's; no parts of files, links to directories or pipes."""
    (root / ".emostream-0123").touch()
    (root / "loop").symlink_to(root)
    (root / "link.wav").symlink_to(root / "a.wav")
    os.mkfifo(root / "pipe")
    os.utime(root / "B", (1e9, 1e9))
    found = {each.key: each for each in DirectoryStore(root).list("")}
    assert set(found) == {*NAMES, "link.wav"}
    assert (found["B"].size_bytes, found["B"].modified_s) == (1, 1e9)


def test_a_list_does_not_leave_the_store(root: Path) -> None:
    """And there is none of what is not mounted, which is no empty one."""
    for prefix in ("../", "/etc/", "a/../../"):
        with pytest.raises(AccessDenied):
            keys(root, prefix)
    with pytest.raises(InvalidJob):
        list(DirectoryStore(root).list("", bucket="other"))
    with pytest.raises(StorageUnavailable):
        keys(root / "away")


def test_a_large_directory_is_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of its names is, at a time."""
    monkeypatch.setattr(walking, "_AT_ONCE", 100)
    for number in range(3000):
        (tmp_path / f"{number:0200}").touch()
    tracemalloc.start()
    listed = sum(1 for _ in DirectoryStore(tmp_path).list(""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert listed == 3000
    assert peak < 250_000  # all names would be 700,000


def test_put_file_and_delete(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whole, with its directories; and gone with the one that it alone was in."""
    source = tmp_path_factory.mktemp("source") / "big"
    source.write_bytes(bytes(range(256)) * 10_000)
    store = DirectoryStore(root)
    store.put_file("uploads/one/big.bin", source, content_type="x/y")
    assert (root / "uploads/one/big.bin").read_bytes() == source.read_bytes()
    store.put("uploads/two", b"x", content_type="x/y")
    store.delete("uploads/one/big.bin")
    assert sorted(os.listdir(root / "uploads")) == ["two"]
    store.delete("uploads/one/big.bin")
    store.delete("nothing/at/all")
    with pytest.raises(AccessDenied):
        store.delete("../x")
    store.delete("a")  # a directory is no object
    assert keys(root, "a/") == expected("a/")
