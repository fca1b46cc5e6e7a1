"""Where decoded samples are written: memory while short, a file of the worker's when long.

Free of numpy: decode processes import it.
"""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from storage.errors import SpoolUnavailable
from storage.objects.blob import write_all

SAMPLE_BYTES = 4  # float32
_PENDING_BYTES = 256 * 1024
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)  # how file systems say so


def unnamed_file(directory: Path) -> int:
    """Descriptor of a new file that has no name: it is gone with its last user, however that ends.

    Raises OSError.
    """
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
    fd, name = tempfile.mkstemp(dir=directory)
    os.unlink(name)
    return fd


def spool_failed(directory: Path | str, error: OSError) -> SpoolUnavailable:
    """The error for a spool directory that takes no more, or never did."""
    return SpoolUnavailable(
        f"decoded audio cannot be written to {directory}: {error.strerror}; make room there, or "
        "point EMO_SPOOL_DIR elsewhere"
    )


class Place(NamedTuple):
    """Where samples may go on: room for so many in all, and a file if it is the first such."""

    num_samples: int
    fd: int | None = None


class PcmWriter:
    """float32 samples, in the order they come, behind one descriptor. Not thread-safe."""

    def __init__(self, *, memory_samples: int, ask: Callable[[int], Place]) -> None:
        """Keep up to `memory_samples` in a memfd; past that `ask` for a place for so many."""
        self.num_samples = 0
        self.fd = os.memfd_create("pcm")
        self._room_samples = memory_samples
        self._ask = ask
        self._pending = bytearray()

    def write(self, samples: memoryview) -> None:
        """Append float32 samples, given as bytes. Raises SpoolUnavailable, and what `ask` does."""
        self.num_samples += len(samples) // SAMPLE_BYTES
        self._pending += samples
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Have every sample behind `fd`, which another file may take over in doing so."""
        try:
            if self.num_samples > self._room_samples:
                place = self._ask(self.num_samples)
                self._room_samples = place.num_samples
                if place.fd is not None:
                    self._move_to(place.fd)
            write_all(self.fd, self._pending)
        except OSError as error:
            raise spool_failed("EMO_SPOOL_DIR", error) from error
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the descriptor; whoever was sent it keeps the samples."""
        os.close(self.fd)

    def _move_to(self, fd: int) -> None:
        """Copy what was written so far to that file, and go on there."""
        memory, self.fd = self.fd, fd
        with os.fdopen(memory, "rb", buffering=0) as written:
            written.seek(0)
            while chunk := written.read(_PENDING_BYTES):
                write_all(self.fd, chunk)
