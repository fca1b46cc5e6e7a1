"""The pages of an Ogg file: where its streams begin, and what is missing. Free of numpy.

Source: RFC 3533, section 6. FFmpeg drops a page that is damaged without a word, and gives up where
a stream that is joined to another has other channels or another rate.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from worker.audio.section import find

_CAPTURE = b"OggS\0"  # and the version
_HEAD = struct.Struct("<4sBBqIIIB")
_CRC_OFFSET = 22
_MAX_HEAD_BYTES = _HEAD.size + 255
_MOST_PAGES = 1_000_000  # at 20 ms a page, five hours
_MOST_DAMAGED = 1_000  # pages: they may lie in one another, and be 64 KiB each
_BEGIN = 2
_GOES_ON = 255  # a packet whose last length this is ends in a later page
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class OggFile:
    """What the pages of a file say of it."""

    links: tuple[tuple[int, int], ...]  # bytes [start, stop) of each stream that is a file itself
    truncated: bool  # it ends within a page or a packet
    damaged: bool  # a page is missing, or is not what was written


@dataclass(frozen=True, slots=True)
class _Page:
    position: int
    length: int
    begins: bool  # a stream
    serial: int
    number: int
    ends_packet: bool
    intact: bool
    whole: bool


def read_pages(fd: int, size: int, most_links: int) -> OggFile | None:
    """Look at every page of the `size` bytes at `fd`; None where they are no Ogg file.

    Not behind very many pages, nor behind the first link beyond `most_links`.
    """
    if os.pread(fd, len(_CAPTURE), 0) != _CAPTURE:
        return None
    starts: list[int] = []
    numbers: dict[int, int] = {}
    damaged = truncated = in_headers = False
    end = 0
    for page in _pages(fd, size):
        damaged |= page.position != end or not page.intact
        end = page.position + page.length
        truncated = page.intact and not (page.whole and page.ends_packet)
        if not page.intact:  # what it says of itself is worth nothing
            continue
        if page.begins and not in_headers:
            starts.append(page.position)
            numbers = {}
            if len(starts) > most_links:
                break
        in_headers = page.begins
        damaged |= page.number > numbers.get(page.serial, page.number) + 1
        numbers[page.serial] = page.number
    starts[:1] = [0]
    return OggFile(
        links=tuple(zip(starts, [*starts[1:], size], strict=True)),
        truncated=truncated or _begins_page(fd, end),
        damaged=damaged,
    )


def _pages(fd: int, size: int) -> Iterator[_Page]:
    """Every page, in order; bytes that are none are left out, and of too many the rest is one."""
    position = num_pages = num_damaged = 0
    while position >= 0 and num_pages < _MOST_PAGES and num_damaged < _MOST_DAMAGED:
        page = _page(fd, position, size)
        if page is None or not page.whole:
            following = find(fd, _CAPTURE, position + 1)
            if page is not None and following < 0:
                yield page
            position = following
            continue
        yield page
        num_pages += 1
        num_damaged += not page.intact
        position += page.length
        if not page.intact and os.pread(fd, len(_CAPTURE), position) != _CAPTURE:
            position = page.position + 1  # its own length may be what is damaged
    if position >= 0:
        yield _Page(position, size - position, False, 0, 0, True, True, True)


def _begins_page(fd: int, position: int) -> bool:
    """Whether less than the head of a page is left there."""
    rest = os.pread(fd, len(_CAPTURE), position)
    return rest != b"" and _CAPTURE.startswith(rest)


def _page(fd: int, position: int, size: int) -> _Page | None:
    """The page that begins at `position`, if one does."""
    head = os.pread(fd, _MAX_HEAD_BYTES, position)
    if not head.startswith(_CAPTURE) or len(head) < _HEAD.size:
        return None
    _, _, flags, _, serial, number, crc, segments = _HEAD.unpack_from(head)
    lengths = head[_HEAD.size : _HEAD.size + segments]
    length = _HEAD.size + segments + sum(lengths)
    whole = len(lengths) == segments and position + length <= size
    return _Page(
        position=position,
        length=length,
        begins=bool(flags & _BEGIN),
        serial=serial,
        number=number,
        ends_packet=not lengths or lengths[-1] != _GOES_ON,
        intact=not whole or _checksum(os.pread(fd, length, position)) == crc,
        whole=whole,
    )


def _checksum(page: bytes) -> int:
    """Checksum of a page, whose own field counts as zero.

    Ogg's and zlib's are of one polynomial, but for the order of bits and what they begin and end
    with.
    """
    blank = page[:_CRC_OFFSET] + bytes(4) + page[_CRC_OFFSET + 4 :]
    mirrored = zlib.crc32(blank.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
