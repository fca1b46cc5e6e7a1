"""How a worker is asked to stop."""

import queue

from worker.app import Stop, Worker


class Deaf:
    """A queue whose first wait misses what is put: a signal came between a look and the wait."""

    def __init__(self) -> None:
        self.waits = 0

    def get(self, timeout: float | None = None) -> Stop:
        """What was put, unless nobody would ever wake who waits for it."""
        self.waits += 1
        assert timeout is not None, "it would wait for ever"
        assert timeout < 1
        if self.waits == 1:
            raise queue.Empty
        return Stop.ASKED


def test_a_signal_just_before_the_wait_is_heard() -> None:
    """Once in some hundred starts that are ended at once, Python runs its handler too late."""
    worker = Worker.__new__(Worker)
    worker._requests = Deaf()  # type: ignore[assignment]
    assert worker._next_request() is Stop.ASKED
