"""What happened lately, by the newest events: how many jobs ended, and what failed of what."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.queue.following import fields_as_text
from storage.queue.steps import Command, Steps
from storage.redis.connection import ReplyTooLarge
from storage.wire.messages import Keys, Status

MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """What jobs failed of lately: an error code, how often, and the last of them."""

    code: str
    jobs: int
    last_job: str
    last_at_ms: int


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest events, at most so many as were asked for: since when, and what they tell."""

    since_ms: int | None
    ends: Mapping[str, int]
    failures: Sequence[RecentFailure]


def recent_ends(keys: Keys, most: int = MOST_EVENTS) -> Steps[Recent]:
    """What the newest events tell, the most frequent failure first; in one round trip."""
    try:
        found = yield Command(("XREVRANGE", keys.results, "+", "-", "COUNT", most))
    except ReplyTooLarge:
        return Recent(None, {}, [])  # somebody writes events by hand
    ends: Counter[str] = Counter()
    jobs: Counter[str] = Counter()
    last: dict[str, tuple[str, int]] = {}
    for entry, raw in found:
        fields = fields_as_text(raw)
        status, at_ms = fields.get("status", ""), _at_ms(entry)
        ends[status] += 1
        if status not in (Status.DONE, Status.CANCELLED):
            code = fields.get("error_code") or status
            jobs[code] += 1
            last.setdefault(code, (fields.get("job", ""), at_ms))
    failures = [RecentFailure(code, count, *last[code]) for code, count in jobs.most_common()]
    return Recent(_at_ms(found[-1][0]) if found else None, dict(ends), failures)


def _at_ms(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
