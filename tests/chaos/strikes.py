"""Carries out a plan's faults at their times."""

import contextlib
import heapq
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import psutil

from tests.chaos.arena import Arena
from tests.chaos.fleet import Worker
from tests.chaos.patience import let_pass
from tests.chaos.plan import STORE_FAULTS, Fault, Strike
from tests.chaos.store_proxy import Mood

_MOODS = {
    Fault.STORE_REFUSES: Mood.REFUSES,
    Fault.STORE_HANGS: Mood.HANGS,
    Fault.STORE_IS_SLOW: Mood.SLOW,
    Fault.STORE_CUTS: Mood.CUTS,
}
_SCRAPE_SECONDS = 2.0  # the next fault is due soon
_PUT_OFF_SECONDS = 0.2
_PUT_OFF_MOST = 150  # then there is nobody left to strike


class Strikes:
    """Not thread-safe; run by one thread, which returns when the last fault is over."""

    def __init__(self, arena: Arena, strikes: tuple[Strike, ...]) -> None:
        self.struck: Counter[Fault] = Counter()
        self.fenced = 0.0  # counted by workers before they were killed or drained
        self._arena = arena
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._put_off = 0
        for strike in strikes:
            self._plan(strike.at_seconds, partial(self._strike, strike))

    def run(self) -> None:
        """Strike, from now on. At the end all that was stopped goes on, and the store is calm."""
        self._started = time.monotonic()
        while self._due:
            at_seconds, _, act = heapq.heappop(self._due)
            let_pass(max(0.0, at_seconds - self._elapsed()))
            act()
        self._arena.store.be(Mood.CALM)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _plan(self, at_seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_seconds, self._order, act))
        self._order += 1

    def _strike(self, strike: Strike) -> None:
        worker = self._target(strike)
        if worker is None:
            # Not waited for here: what ends another fault may be due.
            self._put_off += 1
            if self._put_off < _PUT_OFF_MOST:
                self._plan(self._elapsed() + _PUT_OFF_SECONDS, partial(self._strike, strike))
            return
        self.struck[strike.fault] += 1
        ends: Callable[[], None] | None = None
        match strike.fault:
            case Fault.KILL_WORKER:
                self._end(worker, signal.SIGKILL)
            case Fault.DRAIN_WORKER:
                self._end(worker, signal.SIGTERM)
            case Fault.PAUSE_WORKER:
                worker.signal(signal.SIGSTOP)
                ends = partial(worker.signal, signal.SIGCONT)
            case Fault.KILL_DECODER:
                _kill_children(worker)
            case Fault.KILL_SERVER:
                self._arena.kill_server()
            case Fault.PAUSE_SERVER:
                ends = partial(self._arena.resume_server, self._arena.pause_server())
            case Fault.LOSE_STORE:
                self._arena.lose_store()
                ends = self._arena.find_store
            case fault if fault in STORE_FAULTS:
                self._arena.store.be(_MOODS[fault])
                ends = partial(self._arena.store.be, Mood.CALM)
        if ends:
            self._plan(self._elapsed() + strike.lasts_seconds, ends)

    def _target(self, strike: Strike) -> Worker | None:
        """The worker of that slot, or the next one that is ready."""
        slots = 1 + max(worker.slot for worker in self._arena.fleet.workers)
        ready = [worker for worker in self._arena.fleet.living() if worker.ready]
        if strike.fault is Fault.DRAIN_WORKER:  # a second SIGTERM would end the drain
            ready = [worker for worker in ready if signal.SIGTERM not in worker.told]
        return min(ready, key=lambda worker: (worker.slot - strike.slot) % slots, default=None)

    def _end(self, worker: Worker, how: signal.Signals) -> None:
        # What it has counted goes with it.
        with contextlib.suppress(OSError):
            self.fenced += worker.fenced(_SCRAPE_SECONDS)
        worker.signal(how)


def _kill_children(worker: Worker) -> None:
    """Kill its decode process, whatever that works on."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        for child in psutil.Process(worker.pid).children():
            os.kill(child.pid, signal.SIGKILL)
