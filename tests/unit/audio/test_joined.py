"""Files that were made to hold very many, or to look so: looking at them has an end."""

import os
import struct
from collections.abc import Callable

import pytest

from storage.errors import NotAudio
from storage.objects.blob import Blob
from tests.support.ogg_files import sealed
from worker.audio import joined
from worker.audio.joined import Joined
from worker.warning import AudioWarning

AMR = b"#!AMR\n"
MOST = 1_000
MANY_BYTES = 16 * 1024**2


def ogg_page(*, begins: bool = False, number: int = 0, segments: int = 0) -> bytearray:
    """A page with a right checksum, of packets of 255 bytes."""
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 2 * begins, 0, 1, number, 0, segments)
    return sealed(bytearray(head + segments * b"\xff" + 255 * segments * b"\0"))


def ogg_chain(num_streams: int) -> bytes:
    """So many streams, each of two pages."""
    return num_streams * bytes(ogg_page(begins=True) + ogg_page(number=1))


def find(data: bytes) -> Joined:
    """What is joined there."""
    with Blob.from_bytes(data) as blob:
        return joined.find_joined(blob.fd, blob.size)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were asked for, each time that some were."""
    asked: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, position: int, /) -> bytes:
        asked.append(size)
        return pread(fd, size, position)

    monkeypatch.setattr(os, "pread", counted)
    return asked


@pytest.mark.parametrize("make", [lambda n: n * AMR, ogg_chain], ids=["amr", "ogg"])
def test_a_thousand_files_may_be_joined(make: Callable[[int], bytes]) -> None:
    """Each is a section; of more the file is refused, and the error says so."""
    data = make(MOST)
    part = len(data) // MOST
    assert find(data).sections == tuple((n * part, (n + 1) * part) for n in range(MOST))
    with pytest.raises(NotAudio, match="more than 1000 files"):
        find(make(MOST + 1))


@pytest.mark.parametrize("make", [lambda n: n * AMR, ogg_chain], ids=["amr", "ogg"])
def test_millions_are_not_looked_at(make: Callable[[int], bytes], reads: list[int]) -> None:
    """Nor held in memory."""
    data = make(MANY_BYTES // len(make(1)))
    with pytest.raises(NotAudio, match="more than 1000 files"):
        find(data)
    assert len(reads) < 10 * MOST


@pytest.mark.parametrize("segments", [0, 1, 255])
def test_of_damaged_pages_a_thousand_are_looked_at(segments: int, reads: list[int]) -> None:
    """A page may lie in another, and claim 64 KiB: each byte would be read a thousand times."""
    head = ogg_page(segments=segments)[: 27 + segments]
    head[22] ^= 1  # of its checksum
    found = find(bytes(head) * (MANY_BYTES // len(head)))
    assert found.sections == ((0, MANY_BYTES // len(head) * len(head)),)
    assert AudioWarning.DAMAGED in found.warnings
    assert len(reads) < 10 * MOST


def test_of_whole_pages_a_million_are_looked_at(reads: list[int]) -> None:
    """Which are hours of speech, though each has a packet."""
    page = bytes(ogg_page())
    found = find(page * 1_100_000)
    assert found == Joined(((0, 1_100_000 * len(page)),))
    assert len(reads) < 2_100_000
