"""Connections that nobody asks anything on give way: else a few hundred of them shut a page out."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

_KEPT = 8  # one place of so many


class Connection(H11Protocol):
    """One of uvicorn's, which by itself waits for ever for a request that does not come.

    A client has `timeout_keep_alive` seconds for the head of a request, from its first byte or from
    connecting on. Where there are almost as many connections as there may be, the one that has been
    silent for longest is cut off, unless it waits for its answer: not one that reads none of it.
    """

    _heard_at = 0.0
    _most: int | None = None
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self._watch()
        if self._most and self._living() >= self._most - max(1, self._most // _KEPT):
            self._make_room()

    @property
    def limit_concurrency(self) -> int | None:
        """For uvicorn, which answers 503 at so many: 0 where there are too many, else None.

        It would count those that were cut off too, until they have noticed.
        """
        return 0 if self._most and self._living() > self._most else None

    @limit_concurrency.setter
    def limit_concurrency(self, most: int | None) -> None:
        self._most = most

    def _living(self) -> int:
        return sum(not each.transport.is_closing() for each in cast(set[Any], self.connections))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard_at = self.loop.time()
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._stop_watching()

    @property
    def _has_asked(self) -> bool:
        """Whether something is being answered, or its body read."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _waits_for_us(self) -> bool:
        """Whether its whole request is here, and it takes the answer as that comes."""
        return self._has_asked and not self.cycle.more_body and not self.flow.write_paused

    def _watch(self) -> None:
        if self._has_asked:
            self._stop_watching()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.timeout_keep_alive, self._cut_off)

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _cut_off(self) -> None:
        self._patience = None
        if not self._has_asked:
            self.transport.abort()  # `close` waits until a client that reads nothing has read

    def _make_room(self) -> None:
        others = [
            each
            for each in cast(set[Any], self.connections)
            if each is not self and not each.transport.is_closing() and not each._waits_for_us
        ]
        if others:
            min(others, key=lambda each: each._heard_at).transport.abort()
