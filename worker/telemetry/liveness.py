"""Whether the process gets on with its work; where it does not, the log says where it stands."""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger(__name__)


class Liveness:
    """Asks `stuck`, which names what hangs, and says once what it found. Thread-safe."""

    def __init__(self, stuck: Callable[[], Sequence[str]]) -> None:
        self._ask = stuck
        self._said = False
        self._lock = threading.Lock()

    def stuck(self) -> Sequence[str]:
        """What hangs now. The first time, all threads' stacks are in the log."""
        found = self._ask()
        with self._lock:
            new, self._said = bool(found) is not self._said, bool(found)
        if new and found:
            log.error("worker.stuck", stages=list(found), stacks=stacks())
        elif new:
            log.info("worker.moves_again")
        return found

    def alive(self) -> bool:
        """Whether nothing hangs."""
        return not self.stuck()


def stacks() -> dict[str, list[str]]:
    """Where every thread of this process stands, by name and number: the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, 'thread')} ({ident})": [
            f"{frame.filename}:{frame.lineno} {frame.name}: {frame.line}"
            for frame in traceback.extract_stack(top)
        ]
        for ident, top in sys._current_frames().items()
    }
