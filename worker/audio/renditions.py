"""What decode processes make of samples, as the worker gets it: trusted with nothing they send."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storage.wire.messages import Want
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.peaks import most_peaks_bytes
from worker.audio.preview import preview_bytes
from worker.audio.protocol import Misbehaved, Render
from worker.audio.rates import Form
from worker.audio.spool import spool_failed
from worker.clip import SAMPLE_RATE_HZ, Renditions

# Beside a sample of 4 bytes lies a quarter of a byte of preview at most, and what frames it.
_SAMPLES_A_BYTE = 3
_FRAMING_BYTES = 4_096


def room_beside(num_samples: int) -> int:
    """Bytes that the preview of so many samples, in all lanes, takes at most."""
    return num_samples // _SAMPLES_A_BYTE + _FRAMING_BYTES


@dataclass(frozen=True, slots=True)
class Decoded:
    """All samples of a recording: float32 (num_samples / lanes, lanes) in the file `fd`.

    Or in a `form` of their own, where nothing is rendered of them. Where it is a `file`, and not
    memory, the preview is put behind them: of hours it is too long for memory.
    """

    fd: int
    num_samples: int
    lanes: int
    file: bool
    form: Form | None = None


class Rendering:
    """One output on its way from a process. Not thread-safe."""

    def __init__(self, what: Want, decoded: Decoded) -> None:
        """Nothing is asked for here: `order` is what is to be sent."""
        self.what = what
        self.order = Render(what, decoded.num_samples, decoded.lanes, SAMPLE_RATE_HZ)
        self._decoded = decoded
        self._in_memory = bytearray()
        self._taken_bytes = 0
        if what is Want.PEAKS:
            self._most_bytes = most_peaks_bytes(max(1, decoded.lanes - 1))
        else:
            self._most_bytes = preview_bytes(decoded.num_samples, decoded.lanes)

    def take(self, fd: int, num_bytes: int) -> None:
        """Keep what the sealed memory `fd` holds. Raises Misbehaved, SpoolUnavailable."""
        self._taken_bytes += num_bytes
        if self._taken_bytes > self._most_bytes:
            raise Misbehaved(f"it made more of the samples than {self.what} can be")
        if not (self._decoded.file and self.what is Want.PREVIEW):
            self._in_memory += os.pread(fd, num_bytes, 0)
            return
        at = self._decoded.num_samples * SAMPLE_BYTES + self._taken_bytes - num_bytes
        os.lseek(self._decoded.fd, at, os.SEEK_SET)
        offset = 0
        try:
            while offset < num_bytes:
                offset += os.sendfile(self._decoded.fd, fd, offset, num_bytes - offset)
        except OSError as error:
            raise spool_failed("EMO_SPOOL_DIR", error) from error

    def finish(self, renditions: Renditions) -> None:
        """Tell of all of it."""
        if self.what is Want.PEAKS:
            renditions.peaks = bytes(self._in_memory)
        elif self._decoded.file:
            renditions.preview_bytes = self._taken_bytes
        else:
            renditions.preview = bytes(self._in_memory)


@contextmanager
def readable(fd: int) -> Iterator[int]:
    """The same file by a descriptor that can be read by alone.

    What the worker has mapped, no decode process may write to, or cut short.
    """
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield reading
    finally:
        os.close(reading)
