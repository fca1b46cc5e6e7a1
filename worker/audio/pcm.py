"""Samples in sealed memory: written by a decode process, and no more to be changed when handed on.

Free of numpy: decode processes import it.
"""

import fcntl
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from storage.objects.blob import write_all
from worker.audio.protocol import Misbehaved

SAMPLE_BYTES = 4  # float32
_PENDING_BYTES = 256 * 1024
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class PcmWriter:
    """float32 samples, in the order they come, in parts of memory. Not thread-safe."""

    def __init__(self, part_bytes: int, hand_over: Callable[[int], None]) -> None:
        """`hand_over` each full part, sealed, whose descriptor is closed when that returns."""
        self.num_samples = 0
        self._part_bytes = part_bytes
        self._hand_over = hand_over
        self._pending = bytearray()
        self._fd = _memory()
        self._written_bytes = 0

    def write(self, samples: memoryview) -> None:
        """Append float32 samples, given as bytes. Raises what `hand_over` does."""
        self.num_samples += len(samples) // SAMPLE_BYTES
        self._pending += samples
        if len(self._pending) >= _PENDING_BYTES:
            self._flush()

    def finish(self) -> tuple[int, int]:
        """Descriptor of the last part, sealed, and how many samples it holds."""
        self._flush()
        seal(self._fd)
        return self._fd, self._written_bytes // SAMPLE_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the descriptor; whoever was sent it keeps the samples."""
        os.close(self._fd)

    def _flush(self) -> None:
        """Have every sample in memory, and hand over each part that others follow."""
        while self._written_bytes + len(self._pending) > self._part_bytes:
            self._append(self._part_bytes - self._written_bytes)
            seal(self._fd)
            self._hand_over(self._fd)
            os.close(self._fd)
            self._fd, self._written_bytes = _memory(), 0
        self._append(len(self._pending))

    def _append(self, num_bytes: int) -> None:
        write_all(self._fd, memoryview(self._pending)[:num_bytes])
        del self._pending[:num_bytes]
        self._written_bytes += num_bytes


def seal(fd: int) -> None:
    """Let nobody change this memory any more, nor its size."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)


def require_sealed(fd: int, num_samples: int) -> None:
    """Raise Misbehaved unless `fd` is sealed memory of just so many samples.

    Reading past the end of a map kills who reads: what is mapped must not be cut short later.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise Misbehaved("its samples are in something that cannot be sealed") from error
    if seals & _SEALS != _SEALS:
        raise Misbehaved("its samples are in memory that is not sealed")
    if os.fstat(fd).st_size != num_samples * SAMPLE_BYTES:
        raise Misbehaved(f"its memory does not hold the {num_samples} samples it tells of")


def _memory() -> int:
    return os.memfd_create("pcm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
