"""A blob holds its bytes behind a descriptor, and closes it exactly once."""

import os
from pathlib import Path

import pytest

from storage.objects.blob import Blob, write_all
from tests.support.blobs import contents


def is_open(fd: int) -> bool:
    """Whether the process has this descriptor open."""
    return Path(f"/proc/self/fd/{fd}").exists()


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 1000])
def test_from_bytes_holds_what_was_given(data: bytes) -> None:
    """A blob made from bytes shows the same bytes, and knows their number."""
    with Blob.from_bytes(data) as blob:
        assert blob.size == len(data)
        assert contents(blob) == data
        assert os.pread(blob.fd, 10, 0) == data[:10]


def test_open_takes_an_existing_file(tmp_path: Path) -> None:
    """A blob opened from a path shows the file's bytes."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    with Blob.open(path) as blob:
        assert (blob.size, contents(blob)) == (4, b"RIFF")


def test_open_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    """A directory or a FIFO is refused at once, without waiting, and nothing stays open."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, fifo):
        with pytest.raises(ValueError, match="not a regular file"):
            Blob.open(path)
    assert os.listdir("/proc/self/fd") == before


def test_leaving_the_with_block_closes_the_descriptor() -> None:
    """A consumer that uses `with` leaves nothing open, even when it fails."""
    blob = Blob.from_bytes(b"abc")
    fd = blob.fd
    with pytest.raises(RuntimeError), blob:
        raise RuntimeError
    assert not is_open(fd)


def test_a_dropped_blob_closes_itself() -> None:
    """A blob that nobody closed is closed when it is garbage collected."""
    blob = Blob.from_bytes(b"abc")
    fd = blob.fd
    del blob
    assert not is_open(fd)


def test_closing_twice_leaves_other_descriptors_alone() -> None:
    """A second close must not hit whoever was given the same number in between."""
    blob = Blob.from_bytes(b"abc")
    fd = blob.fd
    blob.close()
    with Blob.from_bytes(b"xyz") as other:
        assert other.fd == fd  # the lowest free number is given again
        blob.close()
        assert contents(other) == b"xyz"


def test_write_all_goes_on_after_a_partial_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte is written where the system takes only two of them at a time."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    with Blob.from_bytes(b"") as blob:
        write_all(blob.fd, memoryview(b"abcde"))
        assert os.pread(blob.fd, 10, 0) == b"abcde"
