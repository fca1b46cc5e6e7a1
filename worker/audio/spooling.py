"""How one decoded file gets its place in the spool: what the worker answers a decode process."""

from storage.errors import JobError
from worker.audio.protocol import Ask, Room
from worker.audio.room import Spool, SpoolFile
from worker.audio.spool import SAMPLE_BYTES

# Nobody knows how long a file is before it is decoded: what is guessed is a little more, and grows.
_GUESS = 1.1
_GROWTH = 1.5


class Spooling:
    """The place of one file. Not thread-safe; owned by the thread that has the file decoded."""

    def __init__(self, spool: Spool) -> None:
        """No room is taken until it is asked for."""
        self.file: SpoolFile | None = None
        self.handed_over = False
        self.error: JobError | None = None  # why there will be no room
        self._spool = spool
        self._wanted_bytes = 0  # there was no room for it at once

    @property
    def begins_again(self) -> bool:
        """Whether room for all of it has to be waited for, and the file be decoded anew."""
        return self._wanted_bytes > 0

    def answer(self, ask: Ask) -> tuple[Room, list[int]]:
        """The answer, and a descriptor to go with it. Waits only while it holds no room."""
        try:
            reserved_bytes = self._reserve(ask)
        except JobError as error:
            self.error, reserved_bytes = error, 0
        fds = [] if self.handed_over or self.file is None else [self.file.fd]
        self.handed_over |= reserved_bytes > 0
        return Room(reserved_bytes // SAMPLE_BYTES), fds if reserved_bytes else []

    def begin_again(self) -> None:
        """Let go of the room, and wait for more. Raises as `Spool.reserve` does."""
        wanted_bytes, self._wanted_bytes = self._wanted_bytes, 0
        self.close()
        self.file = self._spool.reserve(wanted_bytes)
        self.handed_over = False

    def close(self) -> None:
        """Give all room back."""
        if self.file is not None:
            self.file.close()
            self.file.release()
            self.file = None

    def _reserve(self, ask: Ask) -> int:
        """Bytes that are reserved now; 0 where there is no room at once. Raises JobError."""
        needed_bytes = SAMPLE_BYTES * ask.num_samples
        self._spool.require_fitting(needed_bytes)
        wanted_bytes = round(_GUESS * SAMPLE_BYTES * max(ask.num_samples, ask.expected_samples))
        if self.file is None:
            self.file = self._spool.reserve(min(self._spool.limit_bytes, wanted_bytes))
        if needed_bytes > self.file.reserved_bytes:
            grown_bytes = round(_GROWTH * self.file.reserved_bytes)
            wanted_bytes = min(self._spool.limit_bytes, max(wanted_bytes, grown_bytes))
            if not self.file.extend(wanted_bytes):
                self._wanted_bytes = wanted_bytes
                return 0
        return self.file.reserved_bytes
