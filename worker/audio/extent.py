"""Where a container says that it ends, by its outermost chunks. Free of numpy.

Sources: ISO/IEC 14496-12 (MP4), RFC 8794 and RFC 9559 (Matroska), Advanced Systems Format 1.2, AIFF
1.3, Apple Core Audio Format 1.0, Sony Wave64, OpenDML AVI 1.02; for MP3 the headers of Xing and of
Fraunhofer, which no standard has.
"""

import os
import struct
from collections.abc import Callable, Iterator

from worker.audio.mp3 import find_count

MATROSKA = "matroska,webm"
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_MAX_CHUNKS = 10_000  # a fragmented MP4 file has some for each second
_BOX_HEAD_BYTES = 8
_TO_THE_END = 1 << 63  # what a length of 0 means, and any other that is nonsense
_AVI_UNKNOWN = (0, 0xFFFF_FFFF)
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT = b"\x18\x53\x80\x67"
_ASF_HEADER = bytes.fromhex("3026b275 8e66 cf11 a6d9 00aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b275 8e66 cf11 a6d9 00aa0062ce6c")
_ASF_HEAD_BYTES = 24
_PLAIN = ("aiff", "caf", "w64")
_MAGIC = {"asf": b"\x30\x26\xb2\x75", "avi": b"RIFF", MP4: b"ftyp"}
_CAF_HEAD_BYTES = 12
_W64_SIZE_OFFSET = 16


def declared_end(fd: int, size: int, form: str) -> int | None:
    """Where the container in FFmpeg's format `form` ends by its own account; None: it says not.

    Beyond `size` it is cut off; what lies behind it, FFmpeg does not read.
    """
    find = _ENDS.get(form)
    return None if find is None else find(fd, size)


def _read(fd: int, layout: str, position: int) -> tuple[int, ...] | None:
    data = os.pread(fd, struct.calcsize(layout), position)
    return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else None


def _avi(fd: int, size: int) -> int | None:
    """A file of more than 1 GB is several of these chunks, one after the other."""
    end = 0
    for _ in range(_MAX_CHUNKS):
        head = os.pread(fd, 12, end)
        if not (head[:4] == b"RIFF" and head[8:] == (b"AVIX" if end else b"AVI ")):
            break
        length = int.from_bytes(head[4:8], "little")
        if length in _AVI_UNKNOWN:
            return None
        end += 8 + length
    return end or None


def _aiff(fd: int, size: int) -> int | None:
    head = _read(fd, ">4xI", 0)
    return 8 + head[0] if head and head[0] else None


def _w64(fd: int, size: int) -> int | None:
    head = _read(fd, "<Q", _W64_SIZE_OFFSET)
    return head[0] if head and 0 < head[0] < 1 << 63 else None


def _caf(fd: int, size: int) -> int | None:
    position = 8
    for _ in range(_MAX_CHUNKS):
        head = os.pread(fd, _CAF_HEAD_BYTES, position)
        if len(head) < _CAF_HEAD_BYTES or not head[:4].isalnum() or head[:4] == b"caff":
            break
        length = int.from_bytes(head[4:], "big", signed=True)
        if length < 0:
            return None  # to the end, however far that is
        position += _CAF_HEAD_BYTES + length
    return position


def is_fragmented(fd: int) -> bool:
    """Whether an MP4 file is written in pieces, of which none knows how many will follow."""
    return any(kind == b"moof" for kind, _ in _boxes(fd))


def _boxes(fd: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each outermost box of an MP4 file."""
    position = 0
    for _ in range(_MAX_CHUNKS):
        head = os.pread(fd, 2 * _BOX_HEAD_BYTES, position)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(kind) < len(b"ftyp") or not kind.isascii() or not kind.decode().isprintable():
            return
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        position = position + length if length >= _BOX_HEAD_BYTES else _TO_THE_END
        yield kind, position


def _mp4(fd: int, size: int) -> int | None:
    """Behind the last box; a second `ftyp` is that of another file, but in one of fragments."""
    end = 0
    kinds: set[bytes] = set()
    for kind, box_end in _boxes(fd):
        if kind == b"ftyp" and kind in kinds and b"moof" not in kinds:
            break
        kinds.add(kind)
        end = box_end
    return None if end >= _TO_THE_END else end


def _matroska(fd: int, size: int) -> int | None:
    """The end of the segment, whose length a live recording leaves open."""
    position = 0
    for identifier in (_EBML_HEADER, _EBML_SEGMENT):
        head = os.pread(fd, 12, position)
        if head[:4] != identifier or not head[4:5] or not head[4]:
            return None
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:
            return None
        position += 4 + width + length
    return position


def _asf(fd: int, size: int) -> int | None:
    """The end of the data, and of what indices follow; a broadcast does not know."""
    position, is_behind_data = 0, False
    for _ in range(_MAX_CHUNKS):
        head = os.pread(fd, _ASF_HEAD_BYTES, position)
        kind, length = head[:16], int.from_bytes(head[16:], "little")
        is_object = len(head) == _ASF_HEAD_BYTES <= length
        if is_behind_data and (not is_object or kind == _ASF_HEADER or position + length > size):
            return position
        if not is_object:
            return None
        position += length
        is_behind_data |= kind == _ASF_DATA
    return None


def _mp3(fd: int, size: int) -> int | None:
    count = find_count(fd)
    return count.end if count else None


_ENDS: dict[str, Callable[[int, int], int | None]] = {
    "aiff": _aiff,
    "asf": _asf,
    "avi": _avi,
    "caf": _caf,
    MATROSKA: _matroska,
    MP4: _mp4,
    "mp3": _mp3,
    "w64": _w64,
}


def is_audio(fd: int, form: str, position: int) -> bool:
    """Whether what lies there, behind the end, can be audio.

    Of a format without compression any byte is; of another, the beginning of one more file.
    """
    return form in _PLAIN or (form in _MAGIC and _MAGIC[form] in os.pread(fd, 8, position))
