"""Whether a file ends before its own header says it does. Free of numpy.

Only what a container states counts. Lengths that FFmpeg estimates from the size of the file and a
bit rate are no statement: they are wrong for every file of variable bit rate.
"""

import os

import av
from av.container import InputContainer

from worker.audio.riff import read_header

_ESTIMATED = ("aac", "ac3", "amr")
# What a header may promise beyond what comes: encoder delay, rounding to whole frames.
_SLACK_SECONDS = 0.25
_SLACK_RATIO = 0.01
_OGG_MAX_PAGE_BYTES = 65_307
_OGG_HEADER_BYTES = 27
_OGG_LAST_PAGE = 4
_ID3_HEADER_BYTES = 10
_ID3_FOOTER = 0x10
_MP3_FIRST_FRAME_BYTES = 2_048
_MP3_FRAME_COUNTS = (b"Xing", b"Info", b"VBRI")


def is_truncated(
    fd: int, size: int, container: InputContainer, *, decoded_seconds: float, cut_packet: bool
) -> bool:
    """Whether less came than the container states; `cut_packet`: its last packet was partial."""
    form = container.format.name
    if form == "wav" and (header := read_header(fd, size)):
        return header.truncated
    if form == "ogg":
        return not _ogg_is_complete(fd, size)
    if form in _ESTIMATED or (form == "mp3" and not _mp3_counts_frames(fd)):
        return False
    slack = max(_SLACK_SECONDS, _SLACK_RATIO * decoded_seconds)
    return cut_packet or _declared_seconds(container) > decoded_seconds + slack


def _declared_seconds(container: InputContainer) -> float:
    """Length of the first audio stream according to the container; 0 where it does not say."""
    stream = container.streams.audio[0]
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # The length of the whole is that of the audio only where there is nothing else.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def _ogg_is_complete(fd: int, size: int) -> bool:
    """Whether the last page is whole and marked as the last. Source: RFC 3533, section 6."""
    tail = os.pread(fd, _OGG_MAX_PAGE_BYTES, max(0, size - _OGG_MAX_PAGE_BYTES))
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < _OGG_HEADER_BYTES:
        return False
    segments = page[26]
    lengths = page[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + segments]
    whole = len(page) >= _OGG_HEADER_BYTES + segments + sum(lengths)
    return whole and bool(page[5] & _OGG_LAST_PAGE)


def _mp3_counts_frames(fd: int) -> bool:
    """Whether the first frame of an MP3 file states how many there are."""
    position = 0
    while (head := os.pread(fd, _ID3_HEADER_BYTES, position))[:3] == b"ID3":
        length = sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
        footer = _ID3_HEADER_BYTES if head[5] & _ID3_FOOTER else 0
        position += _ID3_HEADER_BYTES + length + footer
    first = os.pread(fd, _MP3_FIRST_FRAME_BYTES, position)
    return any(mark in first for mark in _MP3_FRAME_COUNTS)
