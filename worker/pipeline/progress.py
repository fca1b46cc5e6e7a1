"""Whether threads get on: each says what it is at, and by when it will have moved."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from threading import get_ident

PATIENCE_SECONDS = 60.0  # on top of what a call may take, since a machine may be busy


@dataclass(slots=True)
class _Call:
    """What one thread is at, its own bound, and when that is over."""

    what: str
    seconds: float
    until: float


class Progress:
    """The calls that are under way, by thread. Thread-safe; made for every job of every stage.

    Whoever calls what takes long says so: `moved` at each sign of life, `waits` before it waits for
    what others hold, which is no work. A thread that is at nothing is idle, and alive.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[int, _Call] = {}

    def begin(self, what: str, seconds: float) -> None:
        """The calling thread is at this, and moves within so many seconds."""
        self._calls[get_ident()] = _Call(what, seconds, self._clock() + seconds)

    def moved(self, seconds: float = 0.0) -> None:
        """It has, and will again within its bound, or within so many seconds if they are more."""
        if call := self._calls.get(get_ident()):
            call.until = self._clock() + max(call.seconds, seconds)

    def waits(self) -> None:
        """It waits for others, for as long as that takes: until it moves."""
        if call := self._calls.get(get_ident()):
            call.until = inf

    def end(self) -> None:
        """It is at nothing."""
        self._calls.pop(get_ident(), None)

    def stuck(self) -> Sequence[str]:
        """What has calls under way of which each should have moved by now."""
        now = self._clock()
        latest: dict[str, float] = {}
        for call in self._calls.copy().values():
            latest[call.what] = max(latest.get(call.what, call.until), call.until)
        return sorted(what for what, until in latest.items() if until < now)
