"""The header of a RIFF WAVE file. Free of numpy: decode processes import it.

Source: Microsoft "Multimedia Programming Interface and Data Specifications 1.0" and mmreg.h.
"""

import os
import struct
from dataclasses import dataclass

FORMAT_PCM = 1
FORMAT_FLOAT = 3
_FORMAT_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_GUID_TAIL = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
_FORMAT_BYTES = 16
_EXTENSIBLE_BYTES = 40
_MAX_CHUNKS = 64  # real files have a handful; a hostile one has millions
# Programs that write to a pipe cannot know the length: they leave 0, or about 2 or 4 GiB.
_UNKNOWN_LENGTH = 0x7FFF_0000


@dataclass(frozen=True, slots=True)
class WavHeader:
    """Format and place of the samples of a WAV file."""

    format: int  # FORMAT_PCM, FORMAT_FLOAT, or another registered tag
    channels: int
    sample_rate_hz: int
    bits: int
    data_offset: int
    data_bytes: int  # what is really there
    truncated: bool  # the header promises more


def read_header(fd: int, size: int) -> WavHeader | None:
    """Header of the WAV file of `size` bytes at `fd`; None for anything but a readable one.

    Chunks of any other kind are skipped wherever they stand.
    """
    if os.pread(fd, 4, 0) != b"RIFF" or os.pread(fd, 4, 8) != b"WAVE":
        return None
    form = b""
    position = 12
    for _ in range(_MAX_CHUNKS):
        head = os.pread(fd, 8, position)
        if len(head) < 8:  # noqa: PLR2004 - the size of a chunk's head, as read one line above
            return None
        kind, length = struct.unpack("<4sI", head)
        body = position + 8
        if kind == b"fmt ":
            form = os.pread(fd, min(length, _EXTENSIBLE_BYTES), body)
        elif kind == b"data":
            return _header(form, body, length, size - body)
        position = body + length + length % 2  # chunks begin at even offsets
    return None


def _header(form: bytes, data_offset: int, declared: int, present: int) -> WavHeader | None:
    """Put the header together from the body of `fmt ` and the lengths of `data`."""
    if len(form) < _FORMAT_BYTES:
        return None
    tag, channels, sample_rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _FORMAT_EXTENSIBLE:
        if form[26:] != _EXTENSIBLE_GUID_TAIL:
            return None
        (tag,) = struct.unpack_from("<H", form, 24)
    known = 0 < declared < _UNKNOWN_LENGTH
    return WavHeader(
        format=tag,
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        bits=bits,
        data_offset=data_offset,
        data_bytes=min(declared, present) if known else present,
        truncated=known and declared > present,
    )
