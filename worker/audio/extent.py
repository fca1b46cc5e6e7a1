"""Where a container says that it ends, by its outermost chunks. Free of numpy.

Sources: ISO/IEC 14496-12 (MP4), RFC 8794 and RFC 9559 (Matroska), Advanced Systems Format 1.2, AIFF
1.3, Apple Core Audio Format 1.0, Sony Wave64, OpenDML AVI 1.02, Sony DSF 1.01, True Audio 1,
WavPack 5, Creative Voice, Flash Video 10.1; for MP3 the headers of Xing and of Fraunhofer, which no
standard has.
"""

import os
import struct
from collections.abc import Callable, Iterator

from worker.audio.mp3 import find_count
from worker.audio.section import find

MATROSKA = "matroska,webm"
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_MAX_CHUNKS = 10_000
_MAX_PARTS = 1_000_000  # of a film in Flash, four hours
_MAX_BOXES = 200_000  # a fragmented MP4 file has two for each fragment: three hours of 0.1 s
_BOX_HEAD_BYTES = 8
_TO_THE_END = 1 << 62  # what a length of 0 means, and any other that is nonsense
_AVI_UNKNOWN = (0, 0xFFFF_FFFF)
_EBML_HEADER = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT = b"\x18\x53\x80\x67"
_ASF_HEADER = bytes.fromhex("3026b275 8e66 cf11 a6d9 00aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b275 8e66 cf11 a6d9 00aa0062ce6c")
_ASF_HEAD_BYTES = 24
_PLAIN = ("aiff", "caf", "w64")
_MAGIC = {
    "asf": b"\x30\x26\xb2\x75",
    "avi": b"RIFF",
    "dsf": b"DSD ",
    "flv": b"FLV",
    "tta": b"TTA1",
    "voc": b"Creative Voice File",
    "wv": b"wvpk",
    MP4: b"ftyp",
}
_WITH_TAGS = ("tta", "voc", "wv")  # which may stand behind the end
_CAF_HEAD_BYTES = 12
_W64_SIZE_OFFSET = 16
_DSF_SIZE_OFFSET = 12
_FLV_MAGIC = int.from_bytes(b"FLV", "big")
_FLV_TAG_BYTES, _FLV_LENGTH_BYTES = 11, 4
_TTA_HEAD = "<10xII4x"  # rate, samples
_MAX_TTA_FRAMES = 100_000  # 29 hours
_WV_HEAD = "<4xI8xI"  # length, and the number of its first sample
_VOC_START_OFFSET = 20
_VOC_END = 0


def declared_end(fd: int, size: int, form: str) -> int | None:
    """Where the container in FFmpeg's format `form` ends by its own account; None: it says not.

    Beyond `size` it is cut off; what lies behind it, FFmpeg does not read.
    """
    end_of = _ENDS.get(form)
    return None if end_of is None else end_of(fd, size)


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
        if position >= _TO_THE_END:
            return None
    return position


def is_fragmented(fd: int) -> bool:
    """Whether an MP4 file is written in pieces, of which none knows how many will follow."""
    return any(kind == b"moof" for kind, _ in boxes(fd))


def boxes(fd: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each outermost box of an MP4 file; of too many the rest counts as one.

    Nothing lies behind one that goes to the end.
    """
    position = 0
    for _ in range(_MAX_BOXES):
        head = os.pread(fd, 2 * _BOX_HEAD_BYTES, position)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if len(kind) < len(b"ftyp") or not kind.isascii() or not kind.decode().isprintable():
            return
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        position = position + length if length >= _BOX_HEAD_BYTES else _TO_THE_END
        yield kind, position
        if position >= _TO_THE_END:
            return
    yield b"", _TO_THE_END


def _mp4(fd: int, size: int) -> int | None:
    """Behind the last box; a second `ftyp` is that of another file, but in one of fragments."""
    end = 0
    kinds: set[bytes] = set()
    for kind, box_end in boxes(fd):
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
        if position >= _TO_THE_END:
            return None
        is_behind_data |= kind == _ASF_DATA
    return None


def _mp3(fd: int, size: int) -> int | None:
    count = find_count(fd)
    return count.end if count else None


def _flv(fd: int, size: int) -> int | None:
    """Where a second file begins behind the last of its tags; None where none does."""
    (end,) = _read(fd, ">5xI", 0) or (0,)
    end += _FLV_LENGTH_BYTES
    for _ in range(_MAX_PARTS):
        head = _read(fd, ">I", end)
        if head is None:
            break
        if head[0] >> 8 == _FLV_MAGIC:
            return end
        end += _FLV_TAG_BYTES + (head[0] & 0xFF_FFFF) + _FLV_LENGTH_BYTES
    return None


def _dsf(fd: int, size: int) -> int | None:
    head = _read(fd, "<Q", _DSF_SIZE_OFFSET)
    return head[0] if head and 0 < head[0] < 1 << 63 else None


def _tta(fd: int, size: int) -> int | None:
    """Behind the last frame: behind the header is a table of their lengths."""
    rate, samples = _read(fd, _TTA_HEAD, 0) or (0, 0)
    frame_samples = 256 * rate // 245
    frames = -(-samples // frame_samples) if frame_samples else 0
    if not 0 < frames < _MAX_TTA_FRAMES or os.pread(fd, 4, 0) != _MAGIC["tta"]:
        return None
    start = struct.calcsize(_TTA_HEAD)
    table = _read(fd, f"<{frames}I", start)
    return None if table is None else start + 4 * frames + 4 + sum(table)


def _wv(fd: int, size: int) -> int | None:
    """Behind the last of its blocks, whose numbers of samples never fall."""
    end, sample = 0, 0
    for _ in range(_MAX_PARTS):
        if os.pread(fd, 4, end) != _MAGIC["wv"]:
            return end or None
        length, block_sample = _read(fd, _WV_HEAD, end) or (0, -1)
        if block_sample < sample:
            return end or None
        end, sample = end + _BOX_HEAD_BYTES + length, block_sample
    return None


def _voc(fd: int, size: int) -> int | None:
    """Behind the block that ends it, or the last."""
    (end,) = _read(fd, "<H", _VOC_START_OFFSET) or (0,)
    for _ in range(_MAX_PARTS):
        kind = os.pread(fd, 4, end) if end < size else b""
        if kind[:1] == bytes([_VOC_END]):
            return end + 1
        if not kind or kind.startswith(_MAGIC["voc"][:4]):
            return end
        end += len(kind) + int.from_bytes(kind[1:], "little")
    return None


_ENDS: dict[str, Callable[[int, int], int | None]] = {
    "aiff": _aiff,
    "asf": _asf,
    "avi": _avi,
    "dsf": _dsf,
    "flv": _flv,
    "caf": _caf,
    MATROSKA: _matroska,
    MP4: _mp4,
    "mp3": _mp3,
    "tta": _tta,
    "voc": _voc,
    "w64": _w64,
    "wv": _wv,
}


def is_audio(fd: int, form: str, position: int) -> bool:
    """Whether what lies there, behind the end, can be audio.

    Of a format without compression any byte is; of another, the beginning of one more file.
    """
    if form in _WITH_TAGS:
        return find(fd, _MAGIC[form], position) >= 0
    return form in _PLAIN or (form in _MAGIC and _MAGIC[form] in os.pread(fd, 8, position))
