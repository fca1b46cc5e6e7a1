"""Dead letters: jobs that were given up on, waiting in a stream to be replayed or purged."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis

from storage.queue.following import fields_as_text
from storage.queue.scripts import load_script
from storage.queue.submission import BacklogFull
from storage.redis.bounds import ReplyTooLarge
from storage.redis.connection import RedisError, server_now_ms
from storage.wire.messages import Keys, default_entry

_SIFTED = 500  # letters looked at by one script, and so many of them at a time
_PAGE = 100
_CHUNK = 200  # letters read at once; each may hold a whole job, 32 KiB
_SLACK_MS = 1000  # between the time in a job's hash and that of its letter


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `fields` are the job's own, as text for people; Redis keeps the bytes."""

    entry: str
    job_id: str
    lane: str
    reason: str
    attempts: str
    run: str
    owner: str
    fields: dict[str, str]

    @property
    def died_at_ms(self) -> int:
        """Unix time by the clock of Redis."""
        return int(self.entry.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Found:
    """A letter, by its entry and its job; `reason` is what the job died of."""

    entry: str
    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cause:
    """How many letters have one reason, and the newest of them."""

    reason: str
    letters: int
    example: Found


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant: all, or those that match everything given here.

    `names` are job ids, or entries of the stream; ages are seconds since the job died.
    """

    names: frozenset[str] = frozenset()
    reason: str | None = None
    older_than_seconds: float | None = None
    newer_than_seconds: float | None = None

    def holds(self, letter: Letter) -> bool:
        """Whether name and reason match; ages are for the server to look up."""
        if self.names and not self.names & {letter.job_id, letter.entry}:
            return False
        return self.reason in (None, letter.reason)


class Verdict(StrEnum):
    """What replaying a letter came to. Only REPLAYED has changed anything."""

    REPLAYED = "REPLAYED"
    GONE = "GONE"  # somebody replayed or purged it
    MOVED_ON = "MOVED_ON"  # its job is no longer dead, or died again in a later run
    PAST_DEADLINE = "PAST_DEADLINE"
    UNFIT = "UNFIT"  # no worker wrote it


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay. `detail` is the run, the status, the deadline or what is wrong."""

    verdict: Verdict
    detail: str


class DeadLetters:
    """Look at dead letters, send their jobs again, forget them. Thread-safe as the client is."""

    def __init__(self, client: redis.Redis, *, keys: Keys, max_backlog: int) -> None:
        self._client = client
        self._keys = keys
        self._max_backlog = max_backlog
        self._replay = load_script(client, "replay")
        self._sift = load_script(client, "sift")

    def __len__(self) -> int:
        return int(self._client.xlen(self._keys.dead))

    def now_ms(self) -> int:
        """The time by the clock of Redis, which the letters' ages are told by."""
        return server_now_ms(self._client)

    def select(self, selection: Selection) -> Iterator[Letter]:
        """The letters that match, newest first, read as they are asked for.

        Letters that come meanwhile are not among them, so a job that dies again at once is not
        replayed for ever.
        """
        if ages := self._ages(selection):
            yield from filter(selection.holds, self._scan(*ages))

    def sift(self, selection: Selection) -> Iterator[Found]:
        """The same, without what the letters hold: 200,000 in seconds. Names are not looked at."""
        for found, _ in self._look_through(selection, each=True):
            yield found

    def summary(self, selection: Selection) -> list[Cause]:
        """What the selected letters died of, the most frequent first."""
        newest: dict[str, Found] = {}
        counts: Counter[str] = Counter()
        for found, count in self._look_through(selection, each=False):
            newest.setdefault(found.reason, found)
            counts[found.reason] += count
        return [Cause(reason, count, newest[reason]) for reason, count in counts.most_common()]

    def _look_through(self, selection: Selection, *, each: bool) -> Iterator[tuple[Found, int]]:
        """Each letter; or some of them, and how many of their reason there are up to the next."""
        if not (ages := self._ages(selection)):
            return
        newest, oldest = ages
        head, tail = [_SIFTED, _PAGE], [selection.reason or "", "each" if each else ""]
        while newest:
            args: list[str | int] = [newest, oldest, *head, *tail]
            following, *columns, counts = self._sift(keys=[self._keys.dead], args=args)
            for *texts, count in zip(*columns, counts, strict=True):
                yield Found(*(text.decode("utf-8", "replace") for text in texts)), int(count)
            newest = following.decode()

    def _ages(self, selection: Selection) -> tuple[str, str] | None:
        """The range of entries that ages mean; None where nothing is that old."""
        newest, oldest = "+", "-"
        if selection.older_than_seconds is not None:
            newest = str(self.now_ms() - round(1000 * selection.older_than_seconds))
        if selection.newer_than_seconds is not None:
            oldest = str(max(0, self.now_ms() - round(1000 * selection.newer_than_seconds)))
        return None if newest.startswith("-") else (newest, oldest)

    def find(self, name: str) -> Letter | None:
        """The letter of that entry, or the newest of that job."""
        wanted = Selection(names=frozenset({name}))
        places = [("+", "-")]
        # The job's hash says when it died; the letter was written then, in the same script.
        died_at_ms: Any = self._client.hget(self._keys.result(name), "finished_at_ms")
        if died_at_ms and re.fullmatch(rb"[0-9]{1,15}", died_at_ms):  # others can write it too
            about = int(died_at_ms)
            places.insert(0, (f"{about + _SLACK_MS}", f"{max(0, about - _SLACK_MS)}"))
        if entry := default_entry(name):
            places.insert(0, (entry[1], entry[1]))
        for newest, oldest in places:
            for letter in filter(wanted.holds, self._scan(newest, oldest)):
                return letter
        return None

    def replay(self, entry: str, *, drop_deadline: bool = False) -> Replayed:
        """Send a letter's job again, as its next run. Raises BacklogFull.

        A deadline that has passed forbids it, unless it is dropped.
        """
        (became,) = self.replay_many([entry], drop_deadline=drop_deadline)
        if isinstance(became, Exception):
            raise became
        return became

    def replay_many(
        self, entries: Sequence[str], *, drop_deadline: bool = False
    ) -> list[Replayed | BacklogFull | RedisError]:
        """The same for some letters in one round trip; what it would have raised, for each."""
        pipeline = self._client.pipeline(transaction=False)
        drop = "1" if drop_deadline else ""
        for entry in entries:
            args: list[str | int] = [self._keys.prefix, entry, self._max_backlog, drop]
            self._replay(keys=self._keys.lanes, args=args, client=pipeline)
        return [self._judge(reply) for reply in pipeline.execute(raise_on_error=False)]

    def _judge(self, reply: Any) -> Replayed | BacklogFull | RedisError:
        if isinstance(reply, RedisError):
            return reply
        verdict, detail = reply
        if verdict == b"FULL":
            return BacklogFull(f"{detail} jobs are waiting; EMO_MAX_BACKLOG={self._max_backlog}")
        said = detail.decode() if isinstance(detail, bytes) else str(detail)
        return Replayed(Verdict(verdict.decode()), said)

    def purge(self, entries: Sequence[str]) -> int:
        """Delete letters for good; returns how many were there. Their results stay till expiry."""
        return int(self._client.xdel(self._keys.dead, *entries)) if entries else 0

    def _scan(self, newest: str, oldest: str) -> Iterator[Letter]:
        count = _CHUNK
        while True:
            try:
                chunk: Any = self._client.xrevrange(
                    self._keys.dead, max=newest, min=oldest, count=count
                )
            except ReplyTooLarge:
                if count == 1:
                    raise
                count = max(1, count // 8)  # jobs may be of a megabyte, where that is allowed
                continue
            yield from (_letter(entry.decode(), fields) for entry, fields in chunk)
            if len(chunk) < count:
                return
            newest = f"({chunk[-1][0].decode()}"


def _letter(entry: str, raw: dict[bytes, bytes]) -> Letter:
    """Whatever stands in the stream: nothing in it can hide the letters beside it."""
    text = fields_as_text(raw)
    return Letter(
        entry=entry,
        job_id=text.get("_job", ""),
        lane=text.get("_lane", ""),
        reason=text.get("_reason", ""),
        attempts=text.get("_attempts", ""),
        run=text.get("_run", ""),
        owner=text.get("_owner", ""),
        fields={name: value for name, value in text.items() if not name.startswith("_")},
    )
