"""A byte budget for what is fetched, decoded and queued, over all stages."""

import threading
import time
from collections import deque
from collections.abc import Callable

from storage.wire.messages import RENDERED, Want
from worker.pipeline.progress import Progress
from worker.pipeline.task import Task

# Peaks of eight channels are a megabyte, and the preview of the longest window another.
_RENDITIONS_BYTES = 2 * 1024**2


class Closed(Exception):
    """The budget was closed while a thread waited for room."""


class ByteBudget:
    """Admits objects while there is room for them, in the order they come. Thread-safe.

    A job is charged once, before its body is fetched: its size plus `decoded_bytes`, the most that
    decoding it leaves in memory, plus `frames_bytes` where it wants its frames, and what peaks and
    a preview may take. Once it is decoded, what that did not take comes back. So no later stage
    ever waits for bytes that another job holds, and nothing can lock up. An object larger than the
    whole budget is admitted when it is alone.
    """

    def __init__(
        self,
        limit_bytes: int,
        *,
        decoded_bytes: int,
        frames_bytes: int = 0,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._decoded_bytes = decoded_bytes
        self._frames_bytes = frames_bytes
        self._progress = progress or Progress(clock)
        self._clock = clock
        self._used_bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._asking: deque[object] = deque()
        self._calling = threading.local()

    @property
    def used_bytes(self) -> int:
        """What is charged now."""
        return self._used_bytes

    def charge(self, task: Task | None) -> None:
        """From now on, what the calling thread admits is charged to `task`, or to nobody."""
        self._calling.task = task

    def admit(self, size: int) -> None:
        """Wait until an object of `size` bytes fits, and charge it. Raises Closed.

        To be called after `charge`.
        """
        task: Task | None = getattr(self._calling, "task", None)
        if task is None:
            raise RuntimeError("nobody is charged for it: nothing could give the bytes back")
        charge = size + self._decoded_bytes + self._for_frames(task)
        charge += _RENDITIONS_BYTES if task.job.want & RENDERED else 0
        if self._admit_at_once(charge):
            task.charged_bytes += charge
            return
        # Waiting for room is no work: the task's time limit stands still meanwhile.
        self._progress.waits()
        asked, overdue_at, task.overdue_at = self._clock(), task.overdue_at, None
        with self._changed:
            turn = object()
            self._asking.append(turn)
            # In turn, or a large object would wait for as long as small ones keep coming.
            self._changed.wait_for(
                lambda: self._closed or (self._asking[0] is turn and self._fits(charge))
            )
            self._asking.remove(turn)
            self._changed.notify_all()
            if self._closed:
                raise Closed("the pipeline has ended")
            self._used_bytes += charge
        self._progress.moved()
        task.charged_bytes += charge
        if overdue_at is not None:
            task.overdue_at = overdue_at + self._clock() - asked

    def decoded(self, task: Task, held_bytes: int) -> None:
        """All that is left of a task's object holds `held_bytes`: charge no more than that."""
        charge = held_bytes + self._for_frames(task)
        spared_bytes = max(0, task.charged_bytes - charge)
        task.charged_bytes -= spared_bytes
        self.release(spared_bytes)

    def release(self, charged_bytes: int) -> None:
        """Give back a charge, or a part of one."""
        if charged_bytes:
            with self._changed:
                self._used_bytes -= charged_bytes
                if self._asking:
                    self._changed.notify_all()

    def close(self) -> None:
        """Wake everyone who waits; nothing is admitted any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _admit_at_once(self, charge: int) -> bool:
        """Where nobody waits and it fits, which is nearly always."""
        with self._changed:
            if self._closed or self._asking or not self._fits(charge):
                return False
            self._used_bytes += charge
            return True

    def _for_frames(self, task: Task) -> int:
        return self._frames_bytes if Want.FRAMES in task.job.want else 0

    def _fits(self, charge: int) -> bool:
        return not self._used_bytes or self._used_bytes + charge <= self._limit_bytes
