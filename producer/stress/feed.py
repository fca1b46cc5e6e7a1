"""What is to be sent next: at its time (open loop), or when another has ended (closed loop)."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from producer.client import Event, Result

MOST_AT_ONCE = 200  # that are due together go in one round trip
_SPIN_SECONDS = 0.0002  # a sleeper wakes up too late by about a quarter of that
_FULL_SECONDS = 0.5  # before a place is used again that met full lanes


@dataclass(slots=True)
class Shot:
    """One job of a run; `intended` and `sent` are times of `time.monotonic`, in seconds.

    `sent` is when its submission began, None before. `refused` is one that met full lanes. One
    that is not `measured` belongs to the warm-up. `ends` are all its ends, `result` its hash.
    """

    job_id: str
    clip: int
    intended: float
    measured: bool
    sent: float | None = None
    refused: bool = False
    ends: list[Event] = field(default_factory=list)
    result: Result | None = None


class Feed(Protocol):
    """Gives shots to senders. Thread-safe."""

    def take(self) -> Sequence[Shot]:
        """Wait for what is due next; nothing when there is no more."""

    def over(self, shot: Shot) -> None:
        """Hear that a shot has ended, or was refused."""

    def stop(self) -> None:
        """Give nothing more."""


class OpenFeed:
    """Shots at their intended times, whatever becomes of those before them."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        self._shots = shots
        self._next = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def take(self) -> Sequence[Shot]:
        """See `Feed.take`. One sender waits for the time; the others wait for their turn."""
        with self._lock:
            first = self._next
            if first == len(self._shots) or not self._wait_until(self._shots[first].intended):
                return ()
            now, self._next = time.monotonic(), first + 1
            while (
                self._next < min(len(self._shots), first + MOST_AT_ONCE)
                and self._shots[self._next].intended <= now
            ):
                self._next += 1
            return self._shots[first : self._next]

    def over(self, shot: Shot) -> None:
        """See `Feed.over`; it makes no difference."""

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._stopped.set()

    def _wait_until(self, moment: float) -> bool:
        """Whether it came to that."""
        while (left := moment - time.monotonic()) > 0:
            if left > _SPIN_SECONDS and self._stopped.wait(left - _SPIN_SECONDS):
                return False
        return not self._stopped.is_set()


class ClosedFeed:
    """So many shots under way at a time: each that ends makes room for one, intended right then."""

    def __init__(
        self, fire: Callable[[float], Shot], *, concurrency: int, start: float, until: float
    ) -> None:
        self._fire = fire
        self._until = until
        self._places: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for _ in range(concurrency):
            self._places.put(start)

    def take(self) -> Sequence[Shot]:
        """See `Feed.take`."""
        with self._lock:
            free: list[float | None] = []
            try:
                free.append(self._places.get(timeout=max(0.0, self._until - time.monotonic())))
                while len(free) < MOST_AT_ONCE:
                    free.append(self._places.get_nowait())
            except queue.Empty:
                pass
            moments = [at for at in free if at is not None]
            if len(moments) < len(free) or time.monotonic() >= self._until:
                self._places.put(None)
                return ()
            return [self._fire(at) for at in moments]

    def over(self, shot: Shot) -> None:
        """See `Feed.over`."""
        if shot.refused:
            time.sleep(_FULL_SECONDS)  # Redis tells nobody that a lane got shorter
        self._places.put(time.monotonic())

    def stop(self) -> None:
        """See `Feed.stop`."""
        self._places.put(None)
