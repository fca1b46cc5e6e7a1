"""Files that go on and on in the smallest parts that there are: nobody walks to their end."""

import os
from typing import Literal

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


FAR = (1 << 63) - 1
# By FFmpeg's name: how it begins, how a part does, and how its length is written.
FURTHEST: dict[str, tuple[bytes, bytes, Literal["big", "little"]]] = {
    "caf": (b"caff" + bytes(4), b"data", "big"),
    "asf": (b"", bytes.fromhex("3026b275 8e66 cf11 a6d9 00aa0062ce6c"), "little"),
    "mov,mp4,m4a,3gp,3g2,mj2": (b"", b"\0\0\0\x01mdat", "big"),
}


@pytest.mark.parametrize("length", [FAR, FAR - 7])
@pytest.mark.parametrize("form", FURTHEST)
def test_a_part_longer_than_any_file_has_no_end(form: str, length: int) -> None:
    """What is behind it cannot be asked for."""
    head, part, order = FURTHEST[form]
    data = head + part + length.to_bytes(8, order)
    with Blob.from_bytes(data + 10 * part) as blob:
        end = declared_end(blob.fd, blob.size, form)
    assert end is None or end >= length
