"""Lanes that an operator has paused: nothing of them is begun until they are resumed."""

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import ResponseError

from storage.redis.connection import server_now_ms
from storage.wire.messages import Keys, Lane

LOOK_SECONDS = 0.5  # how old what a worker knows of them may be


class Pauses:
    """Looks, pauses and resumes. Thread-safe as redis-py's client is."""

    def __init__(
        self, client: redis.Redis, keys: Keys, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client: Any = client
        self._keys = keys
        self._clock = clock
        self._known: frozenset[Lane] = frozenset()
        self._look_at = clock()

    def since_ms(self) -> dict[Lane, int]:
        """Those that are paused, and since when, by the clock of Redis."""
        try:
            found = self._client.hgetall(self._keys.paused)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return {}  # nobody's: begin deletes it
        told = {name.decode("utf-8", "replace"): value for name, value in found.items()}
        return {lane: _whole(told[lane]) for lane in Lane if lane in told}

    def recent(self) -> frozenset[Lane]:
        """Those that are paused, as known half a second ago at most."""
        if self._clock() >= self._look_at:
            self._known = frozenset(self.since_ms())
            self._look_at = self._clock() + LOOK_SECONDS
        return self._known

    def pause(self, lane: Lane) -> bool:
        """Pause a lane; False where it was paused already."""
        now_ms = server_now_ms(self._client)
        return bool(self._client.hsetnx(self._keys.paused, lane.value, now_ms))

    def resume(self, lane: Lane) -> bool:
        """Resume a lane; False where it was not paused."""
        return bool(self._client.hdel(self._keys.paused, lane.value))


def _whole(value: bytes) -> int:
    return int(value) if value.isdigit() else 0
