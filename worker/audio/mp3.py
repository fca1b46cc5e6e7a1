"""The first frame of an MP3 file, where it counts those that follow. Free of numpy.

Sources: ID3v2.4 structure, sections 3.1 and 3.4, for what may precede it; for the counts LAME's and
Fraunhofer's encoders, since no standard has them.
"""

import os
from dataclasses import dataclass

from worker.audio.section import find

_ID3_HEAD_BYTES = 10
_ID3_FOOTER = 0x10
_FRAME_BYTES = 2_048  # of the first frame, and of what may stand between it and the tag
_INNER_TAGS = (b"ID3\x03", b"ID3\x04", b"APETAGEX")
_HAS_FRAMES, _HAS_BYTES = 1, 2


@dataclass(frozen=True, slots=True)
class FrameCount:
    """What the first frame says of the file; None where it does not say that."""

    frames: int | None
    end: int | None  # where the last frame ends, from the beginning of the file


def find_count(fd: int) -> FrameCount | None:
    """The count in the first frame of the MP3 file at `fd`; None where there is none."""
    start = _behind_tags(fd)
    head = os.pread(fd, _FRAME_BYTES, start)
    for mark in (b"Xing", b"Info", b"VBRI"):
        if (found := head.find(mark)) >= 0:
            break
    else:
        return None
    body = head[found + 4 :]
    if mark == b"VBRI":
        frames, num_bytes = _number(body[10:14]), _number(body[6:10])
    else:
        flags = _number(body[:4]) or 0
        at = 4 + 4 * bool(flags & _HAS_FRAMES)
        frames = _number(body[4:8]) if flags & _HAS_FRAMES else None
        num_bytes = _number(body[at : at + 4]) if flags & _HAS_BYTES else None
    return FrameCount(frames, start + _begin(head[:found]) + num_bytes if num_bytes else None)


def has_inner_tag(fd: int) -> bool:
    """Whether a tag stands where a second file begins that was joined to the first."""
    return any(find(fd, tag, 1) >= 0 for tag in _INNER_TAGS)


def _begin(head: bytes) -> int:
    """Where in `head` the first frame begins: with eleven bits that are set."""
    at = head.find(b"\xff")
    while at >= 0 and not head[at + 1 : at + 2] >= b"\xe0":
        at = head.find(b"\xff", at + 1)
    return max(0, at)


def _number(data: bytes) -> int | None:
    return int.from_bytes(data, "big") or None


def _behind_tags(fd: int) -> int:
    """Where the first frame is looked for."""
    position = 0
    while (head := os.pread(fd, _ID3_HEAD_BYTES, position))[:3] == b"ID3":
        length = sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False)
        )
        footer = _ID3_HEAD_BYTES if head[5:6] and head[5] & _ID3_FOOTER else 0
        position += _ID3_HEAD_BYTES + length + footer
    return position
