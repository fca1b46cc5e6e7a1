"""Memory that was freed goes back to the system."""

import ctypes
import threading

PERIOD_SECONDS = 10.0


class Trimmer:
    """A thread that has the C library give back what it keeps of freed memory, now and then.

    Clips and tapes of ever other sizes leave holes in its heap, so that a worker would seem to grow
    for hours. Where the library has no such call (musl), nothing is done.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trim", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()

    def _run(self) -> None:
        while self._trim is not None and not self._stop.wait(PERIOD_SECONDS):
            self._trim(0)  # a few milliseconds, without Python's lock
