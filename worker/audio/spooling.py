"""How one decoded file gets its place in the spool, part by part, as a decode process hands it on.

Nobody but the worker has this file open: what it maps later, a hostile process cannot cut short.
"""

import os
from collections.abc import Callable

from storage.errors import JobError, SpoolUnavailable
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.room import Spool, SpoolFile
from worker.audio.spool import spool_failed

# Nobody knows how long a file is before it is decoded: what is guessed is a little more, and grows.
_GUESS = 1.1
_GROWTH = 1.5


class Spooling:
    """The place of one file. Not thread-safe; owned by the thread that has the file decoded."""

    def __init__(
        self, spool: Spool, *, beside: Callable[[int], int] = lambda num_samples: 0
    ) -> None:
        """No room is taken before there is a part to keep.

        `beside` is what is wanted behind so many samples, in bytes.
        """
        self._beside = beside
        self.file: SpoolFile | None = None
        self.num_samples = 0
        self.error: JobError | None = None  # why there will be no room
        self._spool = spool
        self._wanted_bytes = 0  # there was no room for it at once
        self._needed_bytes = 0  # of that, what is known to be needed

    @property
    def begins_again(self) -> bool:
        """Whether room for all of it has to be waited for, and the file be decoded anew."""
        return self._wanted_bytes > 0

    def room_for(self, num_samples: int) -> int:
        """Bytes that so many samples take, and what is behind them."""
        return SAMPLE_BYTES * num_samples + self._beside(num_samples)

    def append(self, fd: int, num_samples: int, *, expected_samples: int) -> bool:
        """Copy the samples behind `fd`; where there is no place, say so here and not by raising.

        Waits only while it holds no room.
        """
        try:
            if not self._reserve(self.num_samples + num_samples, expected_samples):
                return False
            self._copy(fd, SAMPLE_BYTES * num_samples)
        except JobError as error:
            self.error = error
            return False
        self.num_samples += num_samples
        return True

    def begin_again(self) -> None:
        """Let go of the room, and wait for more where it was too little.

        Raises as `Spool.reserve` does.
        """
        wanted_bytes, self._wanted_bytes = self._wanted_bytes, 0
        self.close()
        if wanted_bytes:
            self.file = self._spool.reserve(wanted_bytes, self._needed_bytes)

    def close(self) -> None:
        """Give all room back."""
        self.num_samples = 0
        if self.file is not None:
            self.file.close()
            self.file.release()
            self.file = None

    def _reserve(self, num_samples: int, expected_samples: int) -> bool:
        """Whether there is room for so many samples in all, now. Raises JobError."""
        needed_bytes = self.room_for(num_samples)
        self._spool.require_fitting(needed_bytes)
        wanted_bytes = round(_GUESS * self.room_for(max(num_samples, expected_samples)))
        if self.file is None:
            wanted_bytes = min(self._spool.limit_bytes, wanted_bytes)
            self.file = self._spool.reserve(wanted_bytes, needed_bytes)
        if needed_bytes > self.file.reserved_bytes:
            grown_bytes = round(_GROWTH * self.file.reserved_bytes)
            wanted_bytes = min(self._spool.limit_bytes, max(wanted_bytes, grown_bytes))
            if not (self.file.extend(wanted_bytes) or self.file.extend(needed_bytes)):
                self._wanted_bytes, self._needed_bytes = wanted_bytes, needed_bytes
                return False
        return True

    def _copy(self, fd: int, num_bytes: int) -> None:
        """Within the kernel, to the end of the file. Raises SpoolUnavailable."""
        assert self.file is not None
        offset = 0
        try:
            while offset < num_bytes:
                copied = os.sendfile(self.file.fd, fd, offset, num_bytes - offset)
                if not copied:
                    raise SpoolUnavailable(f"{self._spool.directory} takes no more samples")
                offset += copied
        except OSError as error:
            raise spool_failed(self._spool.directory, error) from error
