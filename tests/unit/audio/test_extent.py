"""Files that go on and on in the smallest parts that there are: nobody walks to their end."""

import os

import pytest

from storage.objects.blob import Blob
from worker.audio.extent import declared_end

MOST = 1_000_000
VOC = b"Creative Voice File\x1a" + (26).to_bytes(2, "little") + bytes(4)
# By FFmpeg's name: how it begins, and a part that holds nothing.
SMALLEST = {
    "flv": (b"FLV\x01\x04" + (9).to_bytes(4, "big") + bytes(4), bytes(15)),
    "voc": (VOC, b"\x02\0\0\0"),
    "wv": (b"", b"wvpk" + (24).to_bytes(4, "little") + bytes(24)),
}


@pytest.mark.parametrize("form", SMALLEST)
def test_a_million_parts_are_walked_through(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind them, a file says nothing of its end."""
    furthest = 0
    pread = os.pread

    def followed(fd: int, size: int, position: int, /) -> bytes:
        nonlocal furthest
        furthest = max(furthest, position)
        return pread(fd, size, position)

    monkeypatch.setattr(os, "pread", followed)
    head, part = SMALLEST[form]
    with Blob.from_bytes(head + (MOST + 100_000) * part) as blob:
        assert declared_end(blob.fd, blob.size, form) is None
    assert furthest <= len(head) + MOST * len(part)


@pytest.mark.parametrize("form", ["voc", "wv"])
def test_the_end_of_a_shorter_file_is_found(form: str) -> None:
    """Where the last of its parts ends."""
    head, part = SMALLEST[form]
    with Blob.from_bytes(head + 20_000 * part) as blob:
        assert declared_end(blob.fd, blob.size, form) == blob.size
