"""The thread that says how this worker is, in step with its heartbeat."""

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from storage import VERSION
from storage.queue.workers import State, Value, Words
from storage.redis.connection import RedisError
from worker.fitness.breaker import Breaker
from worker.telemetry.account import Account

_AGAIN_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Telling:
    """Tells every quarter of a lease, and at once what is new. Whoever hangs, nobody waits for it.

    `phase` is what the worker itself does; `stuck` names the stages that hang, and
    `connected` says whether jobs can be taken.
    """

    def __init__(
        self,
        words: Words,
        account: Account,
        breaker: Breaker,
        *,
        about: Mapping[str, Value],
        lease_seconds: float,
        stuck: Callable[[], Sequence[str]],
        connected: Callable[[], bool],
    ) -> None:
        self._words = words
        self._account = account
        self._breaker = breaker
        self._about = {"started_at_ms": round(1000 * time.time()), **about}
        self._period_seconds = lease_seconds / 4
        self._stuck = stuck
        self._connected = connected
        self._phase = State.WARMING
        self._failing = False
        self._new = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)

    def start(self) -> None:
        """Tell for the first time, soon, and go on."""
        self._new.set()
        self._thread.start()

    def say(self, phase: State) -> None:
        """The worker is at that now: it is told at once."""
        self._phase = phase
        self._new.set()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Tell nothing more."""
        self._stopped = True
        self._new.set()
        self._thread.join(timeout_seconds)

    def tell(self) -> None:
        """Tell once. Raises RedisError."""
        state, sickness = self._state()
        self._words.tell(
            {
                **self._about,
                "state": state.value,
                **({"sickness": sickness} if sickness else {}),
                **self._account.fields(),
            }
        )

    def _state(self) -> tuple[State, str]:
        finding = self._breaker.finding
        if self._phase is not State.READY:
            return self._phase, ""
        if stuck := self._stuck():
            return State.STUCK, f"ended nothing for too long: {', '.join(stuck)}"
        if finding:
            return State.STORE_AWAY if finding.away else State.SICK, finding.reason
        return (State.READY if self._connected() else State.REDIS_AWAY), ""

    def _run(self) -> None:
        wait_seconds = self._period_seconds
        while True:
            self._new.wait(wait_seconds)
            self._new.clear()
            if self._stopped:
                return
            wait_seconds = self._period_seconds
            try:
                self.tell()
                self._failing = False
            except RedisError as error:
                if not self._failing:  # once an outage
                    log.warning("worker.not_told", error=str(error))
                self._failing = True
                # Soon: or it looks dead when Redis is back.
                wait_seconds = min(wait_seconds, _AGAIN_SECONDS)
            except Exception:
                log.exception("worker.not_told")


def about_worker(model: Mapping[str, str], agreed: Mapping[str, str]) -> dict[str, Value]:
    """What does not change: where it runs, what it runs, and settings that all should agree on."""
    settings = json.dumps(agreed, sort_keys=True, separators=(",", ":"))
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": VERSION,
        **model,
        "fingerprint": hashlib.sha256(settings.encode()).hexdigest()[:12],
        "settings": settings,
    }
