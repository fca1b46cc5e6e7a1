"""Samples in memory that the worker makes, a decode process fills, and the worker seals.

The process has no way to send a descriptor: those on their way are counted for all programs of a
user together, and one that left many lying would keep all others from sending theirs.

Free of numpy: decode processes import it.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from storage.objects.blob import write_all
from worker.audio.protocol import Misbehaved

SAMPLE_BYTES = 4  # float32
_PENDING_BYTES = 256 * 1024
# The system holds a page for a moment where it moves it elsewhere: it waits for that, but not long.
# Each try is 0.15 s then, and none where somebody has a map to write by.
_SEAL_TRIES = 8
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class PartWriter:
    """Bytes, in the order they come, into one memory after another. Not thread-safe."""

    def __init__(
        self, part_bytes: int | Callable[[], int], fd: int, hand_over: Callable[[], int]
    ) -> None:
        """Fill the memory `fd`; `hand_over` it when it is full, which returns the next.

        How many bytes it takes may be known only when there are some.

        All of them are the caller's to close.
        """
        self.num_bytes = 0
        self._part_bytes = part_bytes if callable(part_bytes) else lambda: part_bytes
        self._hand_over = hand_over
        self._pending = bytearray()
        self._fd = fd
        self._written_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises what `hand_over` does."""
        self.num_bytes += len(data)
        self._pending += data
        if len(self._pending) >= _PENDING_BYTES:
            self._flush()

    def finish(self) -> int:
        """Have all in memory; returns how many bytes the last one holds."""
        self._flush()
        return self._written_bytes

    def _flush(self) -> None:
        """Have every byte in memory, and hand over each part that others follow."""
        part_bytes = self._part_bytes()
        while self._written_bytes + len(self._pending) > part_bytes:
            self._append(part_bytes - self._written_bytes)
            self._fd, self._written_bytes = self._hand_over(), 0
        self._append(len(self._pending))

    def _append(self, num_bytes: int) -> None:
        write_all(self._fd, memoryview(self._pending)[:num_bytes])
        del self._pending[:num_bytes]
        self._written_bytes += num_bytes


class Memory:
    """The memory that a decode process fills now. Not thread-safe."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = _new()

    def sealed(self, num_bytes: int) -> int:
        """Its descriptor, once nobody can change it any more. Raises Misbehaved: see `seal`."""
        seal(self.fd, num_bytes)
        return self.fd

    def renew(self) -> None:
        """Another in its place. Raises OSError."""
        old, self.fd = self.fd, _new()
        os.close(old)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it back; a map of it goes on."""
        os.close(self.fd)


def seal(fd: int, num_bytes: int) -> None:
    """Let nobody change this memory any more, nor its size, which must be as told.

    Reading past the end of a map kills who reads: what is mapped must not be cut short later.
    Raises Misbehaved where that cannot be had.
    """
    for tries_left in reversed(range(_SEAL_TRIES)):
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            break
        except OSError as error:  # it has a map to write by, or it is no such memory
            if error.errno != errno.EBUSY or not tries_left:
                raise Misbehaved("what it sent is in memory that cannot be sealed") from error
    if os.fstat(fd).st_size != num_bytes:
        raise Misbehaved(f"its memory does not hold the {num_bytes} bytes it tells of")


def _new() -> int:
    return os.memfd_create("pcm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
