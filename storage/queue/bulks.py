"""Bulks: very many jobs of one list, sent a page at a time. See docs/bulk.md.

A bulk is a hash that says where it came from, how far it is and what is to be done; it knows
nothing of who sends its jobs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis

from storage.errors import InvalidJob
from storage.queue.following import fields_as_text
from storage.queue.steps import Call, Driver, Steps
from storage.wire.messages import Keys, Lane, require_id

LONGEST_ID = 64  # the ids of its jobs are longer
_KEPT_MS = 7 * 86_400_000  # once it has ended
_MOST_REFUSED_AT_ONCE = 1000
_MOST_COUNTED = 1000
WAITING = "waiting"  # running, and saying what for


class BulkStatus(StrEnum):
    """Where a bulk is."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"  # its list cannot be read; it may be resumed
    ENDING = "ending"  # all is sent, and its batch is to be sealed
    CANCELLING = "cancelling"
    DONE = "done"  # all is sent; what becomes of the jobs, its batch says
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return self in (BulkStatus.DONE, BulkStatus.CANCELLED)


OPEN = [each for each in BulkStatus if not each.ended]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk as it was read. Times are unix milliseconds, by the clock of Redis."""

    id: str
    status: BulkStatus
    lane: Lane
    source: Mapping[str, Any]
    job: Mapping[str, str]  # fields that each job has, unless its row has its own
    page: int  # pages that are sent
    begun: int  # the page that somebody began to send last
    cursor: str  # where the next page begins, as the source has it
    keys: int  # rows that jobs were made of
    skipped: int
    refused: int
    error: str = ""
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How many bulks are where, by status or `waiting`: of the newest thousand.

    `silent_seconds` is since control last got on with one that it is to get on with, the longest.
    """

    counts: Mapping[str, int]
    silent_seconds: float


def standing(keys: Keys) -> Steps[Standing]:
    """How bulks are, read in one step that changes nothing."""
    silent_ms, *told = yield Call("bulks", [keys.bulks], [keys.prefix, _MOST_COUNTED])
    found = {
        status.decode("utf-8", "replace"): int(count)
        for status, count in zip(told[::2], told[1::2], strict=True)
    }
    counts = {each: found.get(each, 0) for each in (*(one.value for one in BulkStatus), WAITING)}
    return Standing(counts, int(silent_ms) / 1000)


class BulkExists(Exception):
    """There is a bulk of that id."""


class Bulks:
    """Looks at bulks and changes them. Thread-safe as redis-py's client is. Raises RedisError."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._driver = Driver(client)
        self._keys = keys

    def create(
        self, bulk: str, lane: Lane, source: Mapping[str, Any], job: Mapping[str, str]
    ) -> None:
        """Begin a bulk. Raises BulkExists, InvalidJob."""
        check_bulk(bulk)
        fields: dict[str, Any] = dict.fromkeys(("page", "keys", "skipped", "refused"), 0)
        fields |= {"begun": -1, "cursor": ""}
        fields |= {"lane": lane.value, "source": json.dumps(source), "job": json.dumps(job)}
        if not self.change(bulk, (), status=BulkStatus.RUNNING, **fields):
            raise BulkExists(f"bulk {bulk}: exists; choose another id")

    def get(self, bulk: str) -> Bulk | None:
        """The bulk; None where there is none, or it ended long ago."""
        return _bulk(bulk, fields_as_text(self._client.hgetall(self._keys.bulk(bulk))))

    def all(self, without: frozenset[str] = frozenset()) -> list[Bulk]:
        """Every bulk that is known, the oldest first, but for some ids."""
        ids = [raw.decode() for raw in self._client.zrange(self._keys.bulks, 0, -1)]
        found = {each: self.get(each) for each in ids if each not in without}
        if gone := [each for each, bulk in found.items() if bulk is None]:
            self._client.zrem(self._keys.bulks, *gone)
        return [bulk for bulk in found.values() if bulk is not None]

    def change(
        self,
        bulk: str,
        expected: Sequence[BulkStatus],
        *,
        at_page: int | None = None,
        refused_rows: Sequence[str] = (),
        **fields: Any,
    ) -> bool:
        """Write fields where its status is one of those, and its page that; whether they were."""
        status = fields.get("status")
        kept = _KEPT_MS if isinstance(status, BulkStatus) and status.ended else ""
        rows = list(refused_rows)[:_MOST_REFUSED_AT_ONCE]
        head = [
            bulk,
            ",".join(expected),
            "" if at_page is None else at_page,
            kept,
            len(rows),
            *rows,
        ]
        flat = [str(text) for pair in fields.items() for text in pair]
        keys = [self._keys.bulk(bulk), self._keys.bulks, self._keys.bulk_refused(bulk)]

        def steps() -> Any:
            return (yield Call("bulk", keys, [*head, *flat]))

        verdict, _ = self._driver.run(steps())
        return bool(verdict == b"CHANGED")

    def refused(self, bulk: str, limit: int = 1000) -> list[str]:
        """Rows that no job could be made of, and why, the newest first."""
        listed = self._client.lrange(self._keys.bulk_refused(bulk), 0, limit - 1)
        return [line.decode("utf-8", "replace") for line in listed]

    def lane_length(self, lane: Lane) -> int:
        """Jobs in a lane, queued or running."""
        return int(self._client.xlen(self._keys.lane(lane)))


def check_bulk(bulk: str) -> str:
    """The id. Raises InvalidJob for what cannot be one."""
    require_id("id", bulk)
    if len(bulk) > LONGEST_ID:
        raise InvalidJob(f"field 'id': {bulk[:40]!r}… has more than {LONGEST_ID} characters")
    return bulk


def _bulk(bulk: str, fields: Mapping[str, str]) -> Bulk | None:
    """What the hash says; None where no program of ours wrote it."""

    def number(name: str) -> int | None:
        text = fields.get(name, "")
        return int(text) if text.lstrip("-").isdigit() and text.isascii() else None

    try:
        return Bulk(
            bulk,
            BulkStatus(fields["status"]),
            Lane(fields["lane"]),
            dict(json.loads(fields["source"])),
            dict(json.loads(fields["job"])),
            int(fields["page"]),
            int(fields["begun"]),
            fields["cursor"],
            number("keys") or 0,
            number("skipped") or 0,
            number("refused") or 0,
            fields.get("error", ""),
            number("created_at_ms"),
            number("updated_at_ms"),
            number("ended_at_ms"),
        )
    except (KeyError, ValueError, TypeError):
        return None
