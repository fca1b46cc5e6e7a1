"""A `Blob`: object bytes behind a file descriptor, handed from stage to stage without a copy."""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self


class Blob:
    """Bytes behind a file descriptor: a memfd or an open regular file.

    Whoever consumes it closes it, best by `with`; one that is merely dropped closes itself. The
    offset of the descriptor belongs to nobody: use `os.pread`. It is never mapped: another program
    may cut a file short, and reading past the end of a map kills. Not thread-safe; owned by one
    stage at a time.
    """

    def __init__(self, fd: int, size: int) -> None:
        """Take over `fd`, whose first `size` bytes are the object."""
        self.fd = fd
        self.size = size

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Copy `data` into a memfd of its own."""
        blob = cls(os.memfd_create("blob"), len(data))
        write_all(blob.fd, data)
        return blob

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an existing regular file. Raises OSError; ValueError for anything but a file."""
        # O_NONBLOCK: opening a FIFO must not wait for its other end. Files ignore it.
        blob = cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), 0)
        status = os.fstat(blob.fd)
        if not stat.S_ISREG(status.st_mode):
            blob.close()
            raise ValueError(f"{path}: is not a regular file; give the path of one")
        blob.size = status.st_size
        return blob

    def close(self) -> None:
        """Close the descriptor; closing twice is harmless."""
        # Forget the number first: closing it a second time could hit somebody else's file.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of `data` at the descriptor's offset; one `write` may take only a part."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]
