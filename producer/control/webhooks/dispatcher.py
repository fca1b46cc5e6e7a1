"""Takes webhooks out of their stream and has them sent, many at once.

First attempts and those that are due again are sent alike; what waits between two is a matter of
rq's scheduler, which says by `storage.queue.webhooks.release` that the time has come.
"""

import os
import secrets
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from time import monotonic
from typing import Any

import structlog

from producer.control.webhooks.hosts import Hosts, host_of
from producer.control.webhooks.patience import LONGEST_SECONDS, wait_seconds
from producer.control.webhooks.sender import Attempt
from storage.queue.webhooks import (
    ASIDE,
    DUE,
    RETRYING,
    Fate,
    Settled,
    Webhook,
    Webhooks,
)
from storage.redis.connection import RedisError, is_group_missing, is_outage

_MOST_HELD = 2000
_MOST_OF_ONE_HOST = 50
_LOOK_SECONDS = 1.0  # for what is due, and what others left
_SWEEP_SECONDS = 60.0
# What still waits then is known to no scheduler any more.
_FORGOTTEN_SECONDS = 1.2 * LONGEST_SECONDS
_AWAY_SECONDS = 1.0
_SILENT_SECONDS = 600.0

log: Any = structlog.get_logger()


def new_owner() -> str:
    """A sender's name, never used twice."""
    return f"sender-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


class Dispatcher:
    """One sender. `run` is called once.

    `send` makes an attempt, `retry_later(entry, attempt, seconds)` has one released then; where it
    raises anything, the same attempt is made again a lease later. `concurrency` attempts are
    made at once, `host_concurrency` of them to one host.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        owner: str,
        send: Callable[[Webhook], Attempt],
        retry_later: Callable[[str, int, float], None],
        concurrency: int,
        host_concurrency: int,
        lease_seconds: float = 60.0,
        grace_seconds: float = 4.0,
        wait: Callable[[int, float | None], float | None] = wait_seconds,
    ) -> None:
        self._webhooks = webhooks
        self._owner = owner
        self._send = send
        self._retry_later = retry_later
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._wait = wait
        self._concurrency = concurrency
        self._hosts = Hosts(
            at_once=host_concurrency, most=_MOST_HELD, most_of_one=_MOST_OF_ONE_HOST
        )
        self._turns: SimpleQueue[str | None] = SimpleQueue()  # of hosts; None is the end
        self._stopping = threading.Event()
        self._away = False
        self._renew_at = self._look_at = self._sweep_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Work until told to stop; then give back what nobody has begun to send."""
        self._stopping = stopping
        # At the end of the process nobody waits for them: a lease tells what they left.
        for number in range(self._concurrency):
            name = f"webhook-{number}"
            threading.Thread(target=self._take_turns, name=name, daemon=True).start()
        grouped = False
        try:
            while not stopping.is_set():
                try:
                    if not grouped:
                        self._webhooks.create_group()
                        grouped = True
                    self._step()
                    self._is_away(None)
                except RedisError as error:
                    grouped = grouped and not is_group_missing(error)
                    if not is_group_missing(error):
                        self._is_away(error)
                        stopping.wait(_AWAY_SECONDS)
        finally:
            self._leave()

    def _step(self) -> None:
        """Renew what is held, look for what is due or was left, and read what is new."""
        now = monotonic()
        if now >= self._renew_at:
            # Whose lease we lost, another sender has: of these our attempts are dropped.
            self._webhooks.hold(self._hosts.held())
            self._renew_at = now + self._lease_seconds / 4
        if now >= self._look_at:
            self._look()
            self._look_at = now + min(_LOOK_SECONDS, self._lease_seconds / 4)
        seconds = min(_LOOK_SECONDS, self._lease_seconds / 4)
        if room := self._hosts.wait_for_room(seconds):
            self._place(self._webhooks.read(room, block_seconds=seconds))

    def _look(self) -> None:
        sweeps = monotonic() >= self._sweep_at
        for consumer in self._webhooks.consumers():
            if consumer == DUE:
                self._take_all(DUE, 0.0)
            elif consumer == RETRYING:
                if sweeps:
                    self._take_all(RETRYING, _FORGOTTEN_SECONDS)
            elif consumer.startswith(ASIDE):
                host = consumer.removeprefix(ASIDE)
                self._give_turns(host, self._hosts.has_aside(host))
            elif taken := self._take_all(consumer, self._lease_seconds):
                log.warning("webhooks.reclaimed", sender=consumer, webhooks=taken)
        if sweeps:
            self._webhooks.reap(idle_seconds=_SILENT_SECONDS)
            self._sweep_at = monotonic() + _SWEEP_SECONDS

    def _take_all(self, consumer: str, idle_seconds: float) -> int:
        taken = 0
        while room := self._hosts.wait_for_room(0):
            found = self._webhooks.take(consumer, most=room, idle_seconds=idle_seconds)
            if not found:
                break
            taken += len(found)
            self._place(found)
        return taken

    def _place(self, webhooks: Iterable[Webhook]) -> None:
        """Hold each for its host, or put it aside where that has enough here."""
        by_host: defaultdict[str, list[Webhook]] = defaultdict(list)
        for webhook in webhooks:
            by_host[host_of(webhook)].append(webhook)
        for host, these in by_host.items():
            turns, beyond = self._hosts.add(host, these)
            self._give_turns(host, turns)
            self._webhooks.settle(
                [Settled(one, Fate.HAND, ASIDE + host, one.count) for one in beyond]
            )

    def _give_turns(self, host: str, turns: int) -> None:
        for _ in range(turns):
            self._turns.put(host)

    def _take_turns(self) -> None:
        while (host := self._turns.get()) is not None:
            self._turn(host)

    def _turn(self, host: str) -> None:
        """Send one, and let other hosts have their turns before the next."""
        try:
            webhook = self._hosts.next_of(host)
            if webhook is not None:
                self._deliver(webhook)
            elif self._hosts.is_aside(host) and not self._stopping.is_set():
                self._take_aside(host)
        except RedisError as error:
            if not is_group_missing(error):
                self._is_away(error)
        except Exception:
            log.exception("webhooks.failed")
        if self._hosts.end_turn(host) and not self._stopping.is_set():
            self._turns.put(host)

    def _take_aside(self, host: str) -> None:
        found = self._webhooks.take(ASIDE + host, most=_MOST_OF_ONE_HOST)
        self._place(found)
        if found:
            self._give_turns(host, self._hosts.has_aside(host))

    def _deliver(self, webhook: Webhook) -> None:
        try:
            attempt = self._send(webhook)
        except Exception:
            log.exception("webhooks.failed")
            attempt = Attempt(False, "a fault of ours: see the log")
        try:
            # What was delivered is said when Redis is back; a lease may have run out by then.
            if settled := self._judge(webhook, attempt):
                self._insist(lambda: self._webhooks.settle([settled]))
        finally:
            self._hosts.drop([webhook])

    def _judge(self, webhook: Webhook, attempt: Attempt) -> Settled | None:
        """What became of it; None where that cannot be said, and a lease will tell."""
        about = {"job": webhook.job, "host": host_of(webhook), "attempt": webhook.count}
        if attempt.delivered:
            log.debug("webhook.delivered", **about)
            return Settled(webhook, Fate.DONE)
        wait = None if attempt.final else self._wait(webhook.count, attempt.retry_after_seconds)
        if wait is None:
            log.error("webhook.given_up", why=attempt.why, **about)
            return Settled(webhook, Fate.DEAD, attempt.why)
        # First to the scheduler: where we die between the two, a lease tells that it is left.
        try:
            self._retry_later(webhook.entry, webhook.count + 1, wait)
        except Exception as error:
            log.error("webhooks.not_scheduled", error=str(error), **about)
            return None
        log.warning("webhook.failed", why=attempt.why, again_seconds=round(wait), **about)
        return Settled(webhook, Fate.HAND, RETRYING, webhook.count + 1)

    def _insist(self, act: Callable[[], object]) -> None:
        while True:
            try:
                act()
            except RedisError as error:
                if not is_outage(error) or self._stopping.is_set():
                    raise
                self._is_away(error)
                self._stopping.wait(_AWAY_SECONDS)
            else:
                return

    def _is_away(self, error: RedisError | None) -> None:
        """Say once that Redis is away, and once that it is back."""
        if error is not None and not self._away:
            log.error("webhooks.away", error=str(error))
        elif error is None and self._away:
            log.info("webhooks.back")
        self._away = error is not None

    def _leave(self) -> None:
        """What nobody has begun is anybody's; what is under way may end, for a while."""
        left = self._hosts.not_begun()
        try:
            self._webhooks.settle([Settled(one, Fate.HAND, DUE, one.count) for one in left])
            self._hosts.wait_until_empty(self._grace_seconds)
            self._webhooks.reap(idle_seconds=_SILENT_SECONDS, leaving=True)
        except RedisError as error:
            self._is_away(error)  # what we had is another's a lease later
        for _ in range(self._concurrency):
            self._turns.put(None)
