"""How many samples a Musepack file holds, by its own header.

FFmpeg tells the length of stream version 8 in blocks of 64 frames, two seconds and more each.
"""

import os

_SIGNATURE = b"MPCK"
_HEAD = b"SH"
_HEAD_BYTES = 64  # more than a stream header takes, which comes first
_BEFORE_COUNT = 5  # a check sum, and the version
_MOST_BYTES_OF_NUMBER = 9
_MORE = 0x80  # of a byte behind which the number goes on


def num_samples(fd: int) -> int | None:
    """Of each channel, in stream version 8; None where its header is not there, or says nothing.

    Source: musepack.net, "SV8 specification", stream header packet.
    """
    data = os.pread(fd, _HEAD_BYTES, 0)
    if data[:4] != _SIGNATURE or data[4:6] != _HEAD:
        return None
    _, body = _number(data, 6)
    count, _ = _number(data, body + _BEFORE_COUNT)
    return count or None


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the highest first, and where it ends; 0 where it does not."""
    value = 0
    for at in range(place, min(len(data), place + _MOST_BYTES_OF_NUMBER)):
        value = value << 7 | data[at] % _MORE
        if data[at] < _MORE:
            return value, at + 1
    return 0, len(data)
