"""The breaker: open while this worker is not fit for work, so that it takes no jobs."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from storage.errors import Internal
from worker.fitness.self_test import Finding
from worker.telemetry.metrics import Metrics

# Between two looks at the machine. Where a mount is gone for all, each worker knows it before many
# jobs have been to three of them.
_CLOSED_SECONDS = 2.0
_OPEN_SECONDS = 1.0  # between two tests of everything
# After an outage, what was connected before it may fail once more.
_AFTERMATH_SECONDS = 1.0
_LONGEST_SECONDS = 15.0  # a test that takes longer hangs, as a mount does whose server is gone

log = structlog.get_logger(__name__)

Test = Callable[[], Finding | None]


class Tests(Protocol):
    """See `SelfTest`."""

    def machine(self) -> Finding | None:
        """What is wrong with this machine."""

    def everything(self) -> Finding | None:
        """That, and whether the stores serve."""


class Breaker:
    """Opens when a test finds something, and closes when everything passes again. Thread-safe.

    A thread of its own looks at the machine now and then, and at everything while it is open;
    whoever meets a fault has everything tested at once.
    """

    def __init__(
        self,
        tests: Tests,
        *,
        metrics: Metrics,
        longest_seconds: float = _LONGEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._tests = tests
        self._metrics = metrics
        self._longest_seconds = longest_seconds
        self._finding: Finding | None = None
        self._last: Finding | None = None
        self._opened_at = self._closed_at = self._tested_at = float("-inf")
        self._testing = threading.Lock()
        self._asked: threading.Thread | None = None  # runs a test, or hangs in one
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="breaker", daemon=True)

    def start(self) -> None:
        """Look at the machine, and go on doing so."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def finding(self) -> Finding | None:
        """Why it is open; None while it is closed."""
        return self._finding

    @property
    def open(self) -> bool:
        """Whether no jobs are to be taken."""
        return self._finding is not None

    def blame(self, since: float) -> Finding | None:
        """What was wrong with a call that began at `since` and has failed; None: nothing.

        Tests everything, unless that is known.
        """
        failed_at = self.clock()
        with self._testing:
            # One that ended after the fault was answered after it too.
            if self._finding is None and self._tested_at < failed_at:
                self._test(self._tests.everything)
                self._tested_at = self.clock()
            # It may have gone well again between the fault and the test.
            well_since = self._closed_at + _AFTERMATH_SECONDS
            return self._finding or (self._last if well_since >= since else None)

    def look(self) -> None:
        """Test what is due: the machine, or everything while it is open."""
        with self._testing:
            self._test(self._tests.everything if self._finding else self._tests.machine)

    def wait_until_closed(self, timeout_seconds: float) -> bool:
        """Wait; whether it is closed."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.open, timeout_seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:  # whoever opens it ends the longer wait
                self._changed.wait_for(lambda: self.open or self._stop.is_set(), _CLOSED_SECONDS)
            if not self.open or not self._stop.wait(_OPEN_SECONDS):
                try:
                    self.look()
                except Exception:
                    # Without looks a breaker that is open would stay so for ever: go on.
                    log.exception("breaker.failed")

    def _test(self, test: Test) -> None:
        """Test, and open or close. The caller holds `_testing`."""
        found = self._within_time(test)
        before = self._finding
        with self._changed:
            self._finding = found
            if found:
                self._last = found
            if before and not found:
                self._closed_at = self.clock()
            if found and not before:
                self._opened_at = self.clock()
            self._changed.notify_all()
        self._metrics.sick.set(found is not None and not found.away)
        self._metrics.store_away.set(found is not None and found.away)
        if found and (before is None or before.away is not found.away):
            log.error("store.away" if found.away else "worker.sick", reason=found.reason)
        elif before and not found:
            seconds = round(self._closed_at - self._opened_at, 1)
            log.info("store.back" if before.away else "worker.well", after_seconds=seconds)

    def _within_time(self, test: Test) -> Finding | None:
        """What the test finds. One that hangs is a finding, and no other begins beside it."""
        found: list[Finding | None] = []
        if self._asked is None:
            asked = threading.Thread(
                target=lambda: found.append(_safely(test)), name="self-test", daemon=True
            )
            try:
                asked.start()
            except RuntimeError as error:
                return Finding(
                    Internal(
                        f"no thread can be started ({error}): raise the limit of processes "
                        "(`ulimit -u`, `pids_limit`, `TasksMax=`)"
                    )
                )
            self._asked = asked
        self._asked.join(self._longest_seconds)
        if self._asked.is_alive():
            return Finding(
                Internal("the self-test hangs: a mount, or a disk, does not answer; restart it")
            )
        self._asked = None
        if found:
            return found[0]
        return self._within_time(test)  # that one hung until now, and was of another call


def _safely(test: Test) -> Finding | None:
    """What the test finds; a fault of the test itself is no finding."""
    try:
        return test()
    except Exception:
        log.exception("fitness.failed")
        return None
