"""What this worker holds."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from storage.queue.entries import Delivery
from storage.wire.messages import Lane
from worker.pipeline.task import Task


@dataclass(slots=True)
class _Held:
    delivery: Delivery
    task: Task | None = None
    lapsing: bool = False
    settling: bool = False

    @property
    def job_id(self) -> str:
        """'' where it was not begun."""
        return self.task.job.id if self.task else ""


class Leases:
    """The entries delivered to this worker and not yet settled or given back. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[tuple[Lane, str], _Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Add entries that were just delivered; returns those that were not held already.

        An older delivery of the same entry is abandoned. One with the same count is the same, but
        where that one is being settled: then it was given back, and taken again.
        """
        added = []
        with self._lock:
            for delivery in deliveries:
                before = self._held.get((delivery.lane, delivery.entry))
                if before and not before.settling and before.delivery.count == delivery.count:
                    continue
                if before and before.task:
                    before.task.abandoned = True
                self._held[delivery.lane, delivery.entry] = _Held(delivery)
                added.append(delivery)
        return added

    def begun(self, delivery: Delivery, task: Task) -> None:
        """Name the task that works on an entry."""
        with self._lock:
            if held := self._find(delivery):
                held.task = task

    def settling(self, deliveries: Iterable[Delivery]) -> None:
        """These are being settled: the server tells whoever does it whether they were lost.

        Until then one that is gone from the server may only be settled already.
        """
        with self._lock:
            for delivery in deliveries:
                if held := self._find(delivery):
                    held.settling = True

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Forget entries: settled, given back or lost. A newer delivery of the same stays."""
        with self._lock:
            for delivery in deliveries:
                if self._find(delivery):
                    del self._held[delivery.lane, delivery.entry]

    def holds(self, delivery: Delivery) -> bool:
        """Whether that very delivery is held: not settled, given back or lost."""
        with self._lock:
            return self._find(delivery) is not None

    def holds_entry(self, lane: Lane, entry: str) -> bool:
        """Whether any delivery of that entry is held."""
        return (lane, entry) in self._held

    def let_lapse(self, delivery: Delivery) -> None:
        """Renew an entry no more. It stays held, so that we learn of it when another has it."""
        with self._lock:
            if held := self._find(delivery):
                held.lapsing, held.settling = True, False

    def renewable(self, now: float) -> list[tuple[Delivery, str]]:
        """What to renew, with job ids: all but what lapses."""
        return self._all(now, lapsing=False)

    def lapsing(self, now: float) -> list[tuple[Delivery, str]]:
        """What others may have: `let_lapse`, and what a stage has worked on for too long."""
        return self._all(now, lapsing=True)

    def lose(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Drop entries that others hold now, and abandon their tasks.

        Returns those that were held until now: the others are being settled, or were meanwhile.
        """
        lost = []
        with self._lock:
            for delivery in deliveries:
                held = self._find(delivery)
                if held is None or held.settling:
                    continue
                if held.task:
                    held.task.abandoned = True
                del self._held[delivery.lane, delivery.entry]
                lost.append(delivery)
        return lost

    def take_all(self) -> list[tuple[Delivery, str]]:
        """Empty it: every entry with its job id ('' where it was not begun), to be given back."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for one in held:
            if one.task:
                one.task.abandoned = True
        return [(one.delivery, one.job_id) for one in held]

    def _find(self, delivery: Delivery) -> _Held | None:
        """Under the lock: that very delivery, where it is held; a later one may be equal to it."""
        held = self._held.get((delivery.lane, delivery.entry))
        return held if held and held.delivery is delivery else None

    def _all(self, now: float, *, lapsing: bool) -> list[tuple[Delivery, str]]:
        with self._lock:
            return [
                (held.delivery, held.job_id)
                for held in self._held.values()
                if lapsing is (held.lapsing or (held.task is not None and held.task.overdue(now)))
            ]
