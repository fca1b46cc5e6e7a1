"""Whether threads get on: each says what it is at, and by when it will have moved."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from threading import get_ident
from typing import ParamSpec, TypeVar

PATIENCE_SECONDS = 60.0  # on top of what a call may take, since a machine may be busy

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Call:
    """What one thread is at, its own bound, and when that is over."""

    what: str
    seconds: float
    until: float


class Progress:
    """The calls that are under way, by thread. Thread-safe; made for every job of every stage.

    Whoever calls what takes long says so: `moved` at each sign of life, `waits` before it waits for
    what others hold, which is no work, nor a sign that those get on. A thread that is at nothing is
    idle, and alive.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._calls: dict[int, _Call] = {}
        self._ended: dict[str, float] = {}  # until when the last call that ended speaks for all

    def begin(self, what: str, seconds: float) -> None:
        """The calling thread is at this, and moves within so many seconds."""
        self._calls[get_ident()] = _Call(what, seconds, self.clock() + seconds)

    def moved(self, seconds: float = 0.0) -> None:
        """It has, and will again within its bound, or within so many seconds if they are more."""
        if call := self._calls.get(get_ident()):
            call.until = self.clock() + max(call.seconds, seconds)

    def waits(self) -> None:
        """It waits for others, for as long as that takes: until it moves."""
        if call := self._calls.get(get_ident()):
            call.until = inf

    def moving(self, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The call, which is a sign of life when it begins."""

        def moving(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            self.moved()
            return call(*args, **kwargs)

        return moving

    def end(self) -> None:
        """It is at nothing."""
        if call := self._calls.pop(get_ident(), None):
            self._ended[call.what] = self.clock() + call.seconds

    def stuck(self) -> Sequence[str]:
        """What is at work, has ended nothing and shown no other sign of life for as long as it may.

        One call that hangs among others that end costs its own job, and not the worker.
        """
        now = self.clock()
        latest: dict[str, float] = {}
        for call in self._calls.copy().values():
            if call.until < inf:
                ended = self._ended.get(call.what, call.until)
                latest[call.what] = max(latest.get(call.what, ended), call.until)
        return sorted(what for what, until in latest.items() if until < now)
