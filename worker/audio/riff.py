"""The header of a RIFF WAVE file. Free of numpy: decode processes import it.

Sources: Microsoft "Multimedia Programming Interface and Data Specifications 1.0" and mmreg.h; EBU
Tech 3306 for RF64.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from worker.audio.slack import slack_seconds
from worker.warning import AudioWarning

FORMAT_PCM = 1
FORMAT_FLOAT = 3
_FORMAT_EXTENSIBLE = 0xFFFE
_EXTENSIBLE_GUID_TAIL = bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
_FORMAT_BYTES = 16
_EXTENSIBLE_BYTES = 40
_HEAD_BYTES = 8
_BEGINNING_BYTES = 512  # of most files all that is looked at
_MAX_CHUNKS = 64  # real files have a handful; a hostile one has millions
# Programs that write to a pipe cannot know the length: they leave 0, or about 2 or 4 GiB.
_UNKNOWN_LENGTH = 0x7FFF_0000
_IN_DS64 = 0xFFFF_FFFF
_DATA_IN_DS64 = slice(8, 16)


@dataclass(frozen=True, slots=True)
class WavHeader:
    """Format and place of the samples of a WAV file."""

    format: int  # FORMAT_PCM, FORMAT_FLOAT, or another registered tag
    channels: int
    sample_rate_hz: int
    bits: int
    bytes_per_second: int
    data_offset: int
    data_bytes: int  # what is really there
    missing_bytes: int  # what the header promises beyond it
    trailing_bytes: int  # what is behind it, and no chunk

    @property
    def warnings(self) -> tuple[AudioWarning, ...]:
        """What is to be doubted by the header alone."""
        rate = self.bytes_per_second or self.channels * self.sample_rate_hz * self.bits // 8 or 1
        slack = slack_seconds(self.data_bytes / rate)
        found = (
            (AudioWarning.TRUNCATED, self.missing_bytes),
            (AudioWarning.TRAILING_DATA, self.trailing_bytes),
        )
        return tuple(warning for warning, size in found if size / rate > slack)


def read_header(fd: int, size: int) -> WavHeader | None:
    """Header of the WAV file of `size` bytes at `fd`; None for anything but a readable one.

    Chunks of any other kind are skipped wherever they stand.
    """
    read = _reader(fd)
    start = read(0, 12)
    if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        return None

    form = b""
    long_bytes = _IN_DS64
    position = 12
    for _ in range(_MAX_CHUNKS):
        head = read(position, _HEAD_BYTES)
        if len(head) < _HEAD_BYTES:
            return None
        kind, length = struct.unpack("<4sI", head)
        body = position + _HEAD_BYTES
        if kind == b"fmt ":
            form = read(body, min(length, _EXTENSIBLE_BYTES))
        elif kind == b"ds64":
            long_bytes = int.from_bytes(read(body, 16)[_DATA_IN_DS64], "little")
        elif kind == b"data":
            if length != _IN_DS64 or long_bytes == _IN_DS64:
                known = 0 < length < _UNKNOWN_LENGTH
            else:
                length, known = long_bytes, True
            return _header(form, body, length if known else size - body, fd, size)
        position = body + length + length % 2  # chunks begin at even offsets
    return None


def _reader(fd: int) -> Callable[[int, int], bytes]:
    """Reads bytes of a file by place and number: of its beginning, from memory."""
    beginning = os.pread(fd, _BEGINNING_BYTES, 0)

    def read(place: int, size: int) -> bytes:
        if place + size <= len(beginning):
            return beginning[place : place + size]
        return os.pread(fd, size, place)

    return read


def _header(form: bytes, data_offset: int, declared: int, fd: int, size: int) -> WavHeader | None:
    """Put the header together from the body of `fmt ` and the length of `data`."""
    if len(form) < _FORMAT_BYTES:
        return None
    tag, channels, sample_rate_hz, bytes_per_second, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _FORMAT_EXTENSIBLE:
        if form[26:] != _EXTENSIBLE_GUID_TAIL:
            return None
        (tag,) = struct.unpack_from("<H", form, 24)
    present = size - data_offset
    return WavHeader(
        format=tag,
        channels=channels,
        sample_rate_hz=sample_rate_hz,
        bits=bits,
        bytes_per_second=bytes_per_second,
        data_offset=data_offset,
        data_bytes=min(declared, present),
        missing_bytes=max(0, declared - present),
        trailing_bytes=_trailing_bytes(fd, data_offset + declared, size),
    )


def _trailing_bytes(fd: int, end: int, size: int) -> int:
    """Bytes behind the data that are no chunks of this file, which may begin at an odd offset."""
    for _ in range(_MAX_CHUNKS):
        if end >= size:
            break
        for position in (end + end % 2, end):
            head = os.pread(fd, _HEAD_BYTES, position)
            length = int.from_bytes(head[4:], "little")
            chunk_end = position + _HEAD_BYTES + length
            name = head[:4].decode("ascii", "replace")
            is_name = len(head) == _HEAD_BYTES and name.isascii() and name.isprintable()
            if is_name and name != "RIFF" and chunk_end <= size:
                break
        else:
            break
        end = chunk_end
    return max(0, size - end)
