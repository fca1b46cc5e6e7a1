"""A self-test that finds what a test tells it."""

import threading

from tests.support.polling import TIMEOUT_SECONDS
from worker.fitness.self_test import Finding


class Fitness:
    """Stands in for SelfTest."""

    def __init__(self) -> None:
        self.found: Finding | None = None
        self.fault: Exception | None = None
        self.tests: list[str] = []
        self.free = threading.Event()  # cleared: it hangs
        self.free.set()

    def machine(self) -> Finding | None:
        """What is wrong with the machine alone."""
        self._test("machine")
        return None if self.found and self.found.away else self.found

    def everything(self) -> Finding | None:
        """What is wrong."""
        self._test("everything")
        return self.found

    def _test(self, what: str) -> None:
        self.tests.append(what)
        assert self.free.wait(TIMEOUT_SECONDS)
        if self.fault:
            raise self.fault
