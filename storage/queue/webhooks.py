"""Ends of jobs that are to be told to a callback: a stream, each entry there until it is delivered.

The scripts that end jobs add to it, in the step that ends the job. Who has an entry, its consumer
says: a sender, or one of the places below. Its delivery count is the attempt it is at. Thus nothing
is known to a sender alone, and what a killed one had is another's one lease later.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import redis
from redis.exceptions import ResponseError

from storage.queue.following import fields_as_text
from storage.queue.scripts import load_script
from storage.redis.bounds import ReplyTooLarge
from storage.redis.connection import RedisError, is_group_missing, server_now_ms, stream_entries
from storage.wire.messages import Keys

SENDERS = "senders"  # the consumer group
DUE = "due"  # has what is to be sent now, by whichever sender
RETRYING = "retrying"  # has what waits for its next attempt
ASIDE = "aside:"  # and a host: has what is beyond what one sender holds for that host
_AT_ONCE = 100
_SETTLED_AT_ONCE = 500
_LETTERS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Webhook:
    """One end of a job that is to be told to `callback`; fields as the stream has them.

    `count` is the attempt that is next, or under way, from 1 on.
    """

    entry: str
    count: int
    fields: Mapping[str, str]

    @property
    def callback(self) -> str:
        """The URL."""
        return self.fields.get("callback", "")

    @property
    def job(self) -> str:
        """Whose end it is."""
        return self.fields.get("job", "")


class Fate(StrEnum):
    """What became of a webhook, in the words of the script."""

    DONE = "done"  # delivered, or dropped
    DEAD = "dead"  # given up on
    HAND = "hand"  # to another consumer


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a webhook; `detail` is why it is dead, or to whom it is handed."""

    webhook: Webhook
    fate: Fate
    detail: str = ""
    next_count: int = 0


@dataclass(frozen=True, slots=True)
class DeadWebhook:
    """A webhook that was given up on; `fields` are those of the stream."""

    entry: str
    reason: str
    attempts: str
    fields: Mapping[str, str]

    @property
    def died_at_ms(self) -> int:
        """Unix time by the clock of Redis."""
        return int(self.entry.partition("-")[0])


class Webhooks:
    """One sender's side. Thread-safe as redis-py's client is. All raise RedisError."""

    def __init__(self, client: redis.Redis, *, keys: Keys, owner: str) -> None:
        self._client: Any = client
        self._keys = keys
        self._owner = owner
        self._take = load_script(client, "webhook_take")
        self._settle = load_script(client, "webhook_settle")
        self._reap = load_script(client, "reap")

    def create_group(self) -> None:
        """Create the consumer group at 0: what ended earlier counts."""
        try:
            self._client.xgroup_create(self._keys.webhooks, SENDERS, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def read(self, most: int, *, block_seconds: float) -> list[Webhook]:
        """At most `most` that no sender has had; waits for one."""
        try:
            reply = self._client.xreadgroup(
                SENDERS,
                self._owner,
                {self._keys.webhooks: ">"},
                count=min(most, _AT_ONCE),
                block=max(1, round(1000 * block_seconds)),
            )
        except ReplyTooLarge:
            return []  # they are ours now, and found when they have lain there for a lease
        return [
            Webhook(entry.decode(), 1, fields_as_text(fields or {}))
            for _, (entry, fields) in stream_entries(reply)
        ]

    def consumers(self) -> dict[str, int]:
        """How many each consumer has; those that have none are left out."""
        try:
            found = self._client.xinfo_consumers(self._keys.webhooks, SENDERS)
        except ResponseError as error:
            if "no such key" not in str(error) and not is_group_missing(error):
                raise
            return {}
        return {
            one["name"].decode("utf-8", "replace"): one["pending"]
            for one in found
            if one["pending"]
        }

    def take(self, consumer: str, *, most: int, idle_seconds: float = 0.0) -> list[Webhook]:
        """Take over what that consumer has had for so long. What cannot be read is dropped."""
        taken = self._take(
            keys=[self._keys.webhooks],
            args=[SENDERS, self._owner, consumer, round(1000 * idle_seconds), min(most, _AT_ONCE)],
        )
        found = [self._fetch(entry.decode(), int(count)) for entry, count in taken]
        lost = [one for one in found if not one.fields]
        self.settle([Settled(one, Fate.DONE) for one in lost])
        return [one for one in found if one.fields]

    def hold(self, webhooks: Sequence[Webhook]) -> list[Webhook]:
        """Say that we have them still; returns those that are another's by now."""
        mine = [Settled(one, Fate.HAND, self._owner, one.count) for one in webhooks]
        kept = self.settle(mine)
        return [one for one, is_kept in zip(webhooks, kept, strict=True) if not is_kept]

    def settle(self, settled: Sequence[Settled]) -> list[bool]:
        """Say what became of them; False for each that is no longer ours."""
        return [
            done
            for first in range(0, len(settled), _SETTLED_AT_ONCE)
            for done in settle_as(
                self._settle, self._keys, self._owner, settled[first : first + _SETTLED_AT_ONCE]
            )
        ]

    def reap(self, *, idle_seconds: float, leaving: bool = False) -> None:
        """Remove consumers that have nothing and have been silent; and ourselves, when leaving."""
        owner = self._owner if leaving else ""
        self._reap(keys=[self._keys.webhooks], args=[SENDERS, owner, round(1000 * idle_seconds)])

    def _fetch(self, entry: str, count: int) -> Webhook:
        with suppress(ReplyTooLarge):
            found = self._client.xrange(self._keys.webhooks, entry, entry)
            return Webhook(entry, count, fields_as_text(found[0][1]) if found else {})
        return Webhook(entry, count, {})


def settle_as(script: Any, keys: Keys, owner: str, settled: Sequence[Settled]) -> list[bool]:
    """What `Webhooks.settle` does, in the name of any consumer."""
    args = [
        word
        for one in settled
        for word in (
            one.webhook.entry,
            one.webhook.count,
            one.fate.value,
            one.detail,
            one.next_count,
        )
    ]
    reply = script(
        keys=[keys.webhooks, keys.dead_webhooks], args=[keys.prefix, SENDERS, owner, *args]
    )
    return [bool(one) for one in reply]


class NotYet(RedisError):
    """The attempt before is not over; say it again later."""


def release(client: redis.Redis, keys: Keys, entry: str, count: int) -> bool:
    """Have a webhook sent now that waits for that attempt; False where it waits no more.

    Raises NotYet where its sender has not put it down: it may be about to.
    """
    waiting, asking = Webhook(entry, count, {}), cast(Any, client)
    script = load_script(client, "webhook_settle")
    (done,) = settle_as(script, keys, RETRYING, [Settled(waiting, Fate.HAND, DUE, count)])
    if done:
        return True
    try:
        found = asking.xpending_range(keys.webhooks, SENDERS, entry, entry, 1)
    except ResponseError as error:
        if not is_group_missing(error):
            raise
        return False
    if found and found[0]["times_delivered"] == count - 1:
        raise NotYet(f"webhook {entry}: attempt {count - 1} is not over")
    return False


class WebhookLetters:
    """Look at the dead ones, send them again, forget them. Thread-safe as the client is."""

    def __init__(self, client: redis.Redis, *, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys
        self._replay = load_script(client, "webhook_replay")

    def __len__(self) -> int:
        return int(self._client.xlen(self._keys.dead_webhooks))

    def now_ms(self) -> int:
        """The time by the clock of Redis."""
        return server_now_ms(self._client)

    def waiting(self) -> int:
        """How many are not delivered yet, and not given up on."""
        return int(self._client.xlen(self._keys.webhooks))

    def listed(self) -> Iterable[DeadWebhook]:
        """All of them, the newest first, read as they are asked for."""
        newest = "+"
        while True:
            page = self._client.xrevrange(
                self._keys.dead_webhooks, newest, "-", count=_LETTERS_AT_ONCE
            )
            for entry, fields in page:
                text = fields_as_text(fields)
                reason, attempts = text.pop("_reason", ""), text.pop("_attempts", "")
                yield DeadWebhook(entry.decode(), reason, attempts, text)
            if len(page) < _LETTERS_AT_ONCE:
                return
            newest = f"({page[-1][0].decode()}"

    def replay(self, entries: Sequence[str]) -> list[bool]:
        """Send them again, from the first attempt on; False for each that is gone."""
        reply = self._replay(
            keys=[self._keys.webhooks, self._keys.dead_webhooks], args=[self._keys.prefix, *entries]
        )
        return [bool(one) for one in reply]

    def purge(self, entries: Sequence[str]) -> int:
        """Forget them; returns how many there were."""
        return int(self._client.xdel(self._keys.dead_webhooks, *entries)) if entries else 0
