"""A clock for patience: it stands still while all of the process does."""

import threading
import time
from collections.abc import Callable

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 5.0  # between two looks: longer than any machine is that busy


class AwakeClock:
    """Seconds in which this process ran. Thread-safe.

    A virtual machine that is paused, or a process that is stopped, gets on with nothing, and hangs
    in nothing either. Whoever looks each second tells that apart: a look that comes much too late
    was made by a thread that could not run, as no other could.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_at: float | None = None  # None: nobody looks, and no gap says anything
        self._paused_seconds = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="awake", daemon=True)

    def __call__(self) -> float:
        """Now."""
        with self._lock:
            now = self._clock()
            if self._seen_at is not None:
                self._see(now, self._seen_at)
            return now - self._paused_seconds

    def look(self) -> None:
        """Again within a second, from now on."""
        with self._lock:
            now = self._clock()
            self._see(now, now if self._seen_at is None else self._seen_at)

    def start(self) -> None:
        """Have a thread look."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._ended.set()

    def _see(self, now: float, before: float) -> None:
        if now - before > _PAUSE_SECONDS:
            self._paused_seconds += now - before
        self._seen_at = now

    def _run(self) -> None:
        self.look()
        while not self._ended.wait(_LOOK_SECONDS):
            self.look()
        with self._lock:
            self._seen_at = None
