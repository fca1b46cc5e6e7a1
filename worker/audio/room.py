"""Room for long audio: how much of the spool directory is in use, and who has to wait for it.

Decoded audio beyond a window lies in unnamed files until it has been classified. Their bytes are
reserved, in a budget and on the disk, before they are written: a full disk in the middle of a file
would fail its job for what others did.
"""

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from storage.errors import AudioTooLong, Internal, SpoolUnavailable
from worker.audio.spool import spool_failed, unnamed_file

# Others use the disk too, and we are not told when they leave it.
_LOOK_SECONDS = 0.05
# With nothing of ours on it, a disk that has had no room for so long is full for good.
_PATIENCE_SECONDS = 30.0
# For so long it is no place for any audio, though there is room for shorter.
_SICK_SECONDS = 60.0
_PROBE_BYTES = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolFile:
    """An unnamed file and the room that is reserved for it. Owned by one thread at a time."""

    def __init__(self, spool: "Spool", fd: int, reserved_bytes: int) -> None:
        """Take over `fd`."""
        self.fd = fd
        self.reserved_bytes = reserved_bytes
        self._spool = spool

    def extend(self, total_bytes: int) -> bool:
        """Reserve up to `total_bytes` where there is room now. Never waits: see `Spool`."""
        if not self._spool.take(self.fd, self.reserved_bytes, total_bytes):
            return False
        self.reserved_bytes = total_bytes
        return True

    def shrink(self, total_bytes: int) -> None:
        """Cut the file to what it holds, and give back the rest. Raises SpoolUnavailable."""
        if os.fstat(self.fd).st_size > total_bytes:
            os.ftruncate(self.fd, total_bytes)
        self._spool.release(max(0, self.reserved_bytes - total_bytes))
        self.reserved_bytes = min(self.reserved_bytes, total_bytes)

    def close(self) -> None:
        """Close the descriptor, while a map of the file may go on: the room is still taken."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def release(self) -> None:
        """The file is gone, or will be when its descriptor is closed. Any thread, even in a GC."""
        reserved_bytes, self.reserved_bytes = self.reserved_bytes, 0
        self._spool.release(reserved_bytes)


class Spool:
    """The directory, and the most that may lie in it. Thread-safe.

    Who needs room waits for it in turn, holding none; a file that turns out longer than it was
    guessed gets more at once or not at all. So nobody holds room while waiting, and nothing locks
    up.
    """

    def __init__(
        self, directory: Path, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        # Told by whoever waits for room: None before, and the bytes of all its room when it has it.
        self.told: Callable[[int | None], None] = lambda total_bytes: None
        self._clock = clock
        self._used_bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._asking: deque[object] = deque()
        self._returned: deque[int] = deque()  # a finalizer may take no lock
        self._full_since: float | None = None
        self._missing_bytes = 0  # what there was no room for, however long it was waited for
        self._missing_until = 0.0

    @property
    def used_bytes(self) -> int:
        """What is reserved now."""
        return self._used_bytes - sum(self._returned.copy())

    def reserve(self, num_bytes: int, least_bytes: int | None = None) -> SpoolFile:
        """A new file with room for `num_bytes`, waiting for it while there is room of ours to come.

        Else with room for `least_bytes`, the same unless given. Raises SpoolUnavailable;
        AudioTooLong where that will never be there; Internal at the end.
        """
        least_bytes = num_bytes if least_bytes is None else least_bytes
        self.require_fitting(least_bytes)
        fd = self.open()
        try:
            reserved_bytes = self._wait_for_room(fd, num_bytes, least_bytes)
        except BaseException:
            os.close(fd)
            raise
        return SpoolFile(self, fd, reserved_bytes)

    def open(self) -> int:
        """A new unnamed file, with nothing reserved for it. Raises SpoolUnavailable."""
        try:
            return unnamed_file(self.directory)
        except OSError as error:
            raise spool_failed(self.directory, error) from error

    def require_fitting(self, num_bytes: int) -> None:
        """Raise AudioTooLong where the whole budget, or disk, is too small for a file.

        SpoolUnavailable where there is no disk.
        """
        if num_bytes > self.limit_bytes:
            raise AudioTooLong(
                f"decoded, the audio takes more than the {self.limit_bytes} bytes of "
                "EMO_SPOOL_BYTES: split it, or raise that"
            )
        try:
            disk = os.statvfs(self.directory)
        except OSError as error:
            raise spool_failed(self.directory, error) from error
        disk_bytes = (disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize
        if num_bytes > disk_bytes > 0:
            raise AudioTooLong(
                f"decoded, the audio takes more than the whole disk of {self.directory}, "
                f"{disk_bytes} bytes: split it, or point EMO_SPOOL_DIR elsewhere"
            )

    def take(self, fd: int, from_bytes: int, to_bytes: int) -> bool:
        """Reserve the bytes [from, to) of a file, if there is room now. Raises SpoolUnavailable."""
        with self._changed:
            while self._returned:
                self._used_bytes -= self._returned.popleft()
            if self._used_bytes + to_bytes - from_bytes > self.limit_bytes:
                return False
            try:
                # Asked first: an attempt that fails would take what is there from others meanwhile.
                if _free_bytes(fd) < to_bytes - from_bytes:
                    return False
                os.posix_fallocate(fd, from_bytes, to_bytes - from_bytes)
            except OSError as error:
                if error.errno not in _FULL:
                    raise spool_failed(self.directory, error) from error
                os.ftruncate(fd, from_bytes)  # a part of it may have been reserved
                return False
            self._used_bytes += to_bytes - from_bytes
        self.told(to_bytes)
        return True

    def release(self, num_bytes: int) -> None:
        """Give back room. Any thread, even in a finalizer."""
        self._returned.append(num_bytes)

    def check(self) -> None:
        """Raise SpoolUnavailable unless a file can be written, and what was missing is there.

        Of what was missing it is told for a minute: there may be room for all else.
        """
        fd = self.open()
        try:
            free_bytes = _free_bytes(fd)
            os.write(fd, bytes(_PROBE_BYTES))
        except OSError as error:
            if error.errno in _FULL and self.used_bytes:
                return  # of our own files, which will go
            raise spool_failed(self.directory, error) from error
        finally:
            os.close(fd)
        if free_bytes < self._missing_bytes and self._clock() < self._missing_until:
            raise self._too_full(free_bytes)
        self._missing_bytes = 0

    def close(self) -> None:
        """Nobody gets room any more; who waits is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_for_room(self, fd: int, num_bytes: int, least_bytes: int) -> int:
        """Reserve, when it is our turn; returns how much."""
        turn = object()
        with self._changed:
            self._asking.append(turn)
            try:
                # In turn, or long audio would wait for as long as shorter audio keeps coming.
                while True:
                    if self._asking[0] is turn:
                        if reserved_bytes := self._take_some(fd, num_bytes, least_bytes):
                            self._full_since = None
                            return reserved_bytes
                        self._lose_patience(least_bytes)
                    if self._closed:
                        raise Internal("the spool is closed: the worker is stopping")
                    self.told(None)
                    self._changed.wait(_LOOK_SECONDS)
            finally:
                self._asking.remove(turn)
                self._changed.notify_all()

    def _take_some(self, fd: int, num_bytes: int, least_bytes: int) -> int:
        """Reserve all, or the least where nothing of ours is in the way; returns how much."""
        if self.take(fd, 0, num_bytes):
            return num_bytes
        # What others have on the disk may stay there for good, and more be but a guess.
        return least_bytes if not self._used_bytes and self.take(fd, 0, least_bytes) else 0

    def _lose_patience(self, num_bytes: int) -> None:
        """Raise SpoolUnavailable where nothing of ours has been in the way for too long."""
        if self._used_bytes:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = self._clock()
        elif self._clock() > self._full_since + _PATIENCE_SECONDS:
            self._full_since, self._missing_bytes = None, num_bytes
            self._missing_until = self._clock() + _SICK_SECONDS
            raise self._too_full(_free_bytes(self.directory))

    def _too_full(self, free_bytes: int) -> SpoolUnavailable:
        return SpoolUnavailable(
            f"{self.directory}: {free_bytes} bytes are free, and a recording needs "
            f"{self._missing_bytes}; make room there, or point EMO_SPOOL_DIR elsewhere"
        )


def _free_bytes(place: int | Path) -> int:
    """Room on the disk of a file or directory."""
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize
