"""Ogg files taken apart into pages, changed, and put together again, for tests."""

import struct

_CRC = slice(22, 26)
_SERIAL = slice(14, 18)
_TABLE = []
for _byte in range(256):
    _value = _byte << 24
    for _ in range(8):
        _value = (_value << 1) ^ 0x04C11DB7 if _value & 0x80000000 else _value << 1
    _TABLE.append(_value & 0xFFFFFFFF)


def pages(data: bytes) -> list[bytearray]:
    """The pages of a whole file."""
    found, position = [], 0
    while position < len(data):
        segments = data[position + 26]
        length = 27 + segments + sum(data[position + 27 : position + 27 + segments])
        found.append(bytearray(data[position : position + length]))
        position += length
    return found


def sealed(page: bytearray) -> bytearray:
    """The page with the checksum that it must have, bit by bit as RFC 3533 says."""
    page[_CRC] = bytes(4)
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _TABLE[crc >> 24 ^ byte]
    page[_CRC] = struct.pack("<I", crc)
    return page


def without_end(data: bytes) -> bytes:
    """The file without the flag of its last page that it is the last."""
    found = pages(data)
    found[-1][5] &= ~4
    sealed(found[-1])
    return b"".join(found)


def with_serial(data: bytes, serial: int) -> bytes:
    """The file with another number for its stream."""
    found = pages(data)
    for page in found:
        page[_SERIAL] = struct.pack("<I", serial)
        sealed(page)
    return b"".join(found)
