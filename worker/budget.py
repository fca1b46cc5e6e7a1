"""A byte budget for what is fetched, decoded and queued, over all stages."""

import threading


class Closed(Exception):
    """The budget was closed while a thread waited for room."""


class ByteBudget:
    """Admits objects while there is room for them. Thread-safe.

    A job is charged once, before its body is fetched: its size plus `decoded_bytes`, the most that
    decoding it leaves in memory. So no later stage ever waits for bytes that another job holds,
    and nothing can lock up. An object larger than the whole budget is admitted when it is alone.
    """

    def __init__(self, limit_bytes: int, *, decoded_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._decoded_bytes = decoded_bytes
        self._used_bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._admitted = threading.local()

    @property
    def used_bytes(self) -> int:
        """What is charged now."""
        return self._used_bytes

    def admit(self, size: int) -> None:
        """Wait until an object of `size` bytes fits, and charge it. Raises Closed."""
        charge = size + self._decoded_bytes
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or not self._used_bytes
                    or self._used_bytes + charge <= self._limit_bytes
                )
            )
            if self._closed:
                raise Closed("the pipeline has ended")
            self._used_bytes += charge
        self._admitted.bytes = self.collect() + charge

    def collect(self) -> int:
        """The bytes admitted for the calling thread since it last asked: now the caller's."""
        admitted: int = getattr(self._admitted, "bytes", 0)
        self._admitted.bytes = 0
        return admitted

    def release(self, charged_bytes: int) -> None:
        """Give back a charge, or a part of one."""
        if charged_bytes:
            with self._changed:
                self._used_bytes -= charged_bytes
                self._changed.notify_all()

    def close(self) -> None:
        """Wake everyone who waits; nothing is admitted any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
