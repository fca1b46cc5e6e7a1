"""A part of an open file, as FFmpeg's libraries read it. Free of numpy: decode processes use it."""

import errno
import os
from io import FileIO

_SEARCH_BYTES = 65_536


def find(fd: int, needle: bytes, position: int) -> int:
    """Where `needle` stands in a file next, at `position` or later; -1 where it does not."""
    while len(block := os.pread(fd, _SEARCH_BYTES, position)) >= len(needle):
        if (found := block.find(needle)) >= 0:
            return position + found
        position += len(block) - len(needle) + 1
    return -1


class Section(FileIO):
    """Bytes [start, stop) of a file, as a file of their own; the descriptor stays the caller's.

    A header may name any offset. Beyond the end there is nothing to read, and nothing is before
    the beginning: neither raises, whatever the file system thinks of such a number.
    """

    def __init__(self, fd: int, start: int, stop: int) -> None:
        """Begin at `start`."""
        super().__init__(fd, closefd=False)
        self.start = start
        self._stop = stop
        super().seek(start)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes; b"" at the end."""
        left = max(0, self._stop - super().tell())
        return super().read(left if size is None or size < 0 else min(size, left)) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to `offset`; the new position, or the negative error that a C function returns."""
        origin = {os.SEEK_SET: self.start, os.SEEK_CUR: super().tell(), os.SEEK_END: self._stop}
        position = origin[whence] + offset
        if position < self.start:
            return -errno.EINVAL
        return super().seek(min(position, self._stop)) - self.start

    def tell(self) -> int:
        """Position in the section."""
        return super().tell() - self.start
