"""Memory that was freed goes back to the system: now and then, and not at every turn."""

import ctypes
import threading

PERIOD_SECONDS = 60.0
# The C library gives large memory back as soon as it is freed. What the next clip takes then comes
# anew, page by page, which costs as much as reading the clip; and on a CPU what each step of a tape
# takes, for a twelfth of its time. Numbers of mallopt, from malloc.h; the second is its most.
_TRIM_THRESHOLD, _KEPT_BYTES = -1, 64 * 1024**2
_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 32 * 1024**2


class Trimmer:
    """A thread that has the C library give back what it keeps of freed memory, now and then.

    Clips and tapes of ever other sizes leave holes in its heap, so that a worker would seem to grow
    for hours. In between it keeps some for what comes next. Where the library has no such calls
    (musl), nothing is done.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        if self._trim is not None:
            library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
            library.mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
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
