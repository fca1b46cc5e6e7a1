"""The delivery protocol: at least once, with exactly one visible result.

Every step that changes more than one key is one Lua script in `storage/queue/lua/`, and checks the
fence (owner, delivery count) before it writes. See docs/delivery.md.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import redis
from redis.exceptions import ResponseError

from storage.queue.entries import (
    Begun,
    Delivery,
    Ending,
    Ends,
    Fields,
    GivenBack,
    Outcome,
    Promoted,
    Reclaimed,
    Verdict,
)
from storage.queue.healing import Healing
from storage.queue.reader import EntryReader
from storage.queue.scripts import load_script
from storage.queue.stranded import Stranded
from storage.queue.takeover import Takeover
from storage.redis.connection import RedisError
from storage.wire.messages import GROUP, Keys, Lane, Status

HEARTBEAT_CHUNK = 500
MAX_SICK_MACHINES = 3  # that may give a job back for a fault of theirs; then it is the job's
_DAY_MS = 86_400_000
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class JobStreams:
    """One worker's side of the protocol. Thread-safe as redis-py's client is, but for reclaim.

    `clock` gives seconds, from anywhere.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        owner: str,
        keys: Keys,
        lease_seconds: float,
        result_ttl_seconds: float,
        results_maxlen: int,
        max_crashes: int,
        max_job_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = owner
        self.keys = keys
        self._client = client
        # The first arguments of every script that can end a job.
        self._settling = Ends(result_ttl_seconds, results_maxlen).settling(keys)
        self._begin = load_script(client, "begin")
        self._finish = load_script(client, "finish")
        self._give_back = load_script(client, "give_back")
        self._heartbeat = load_script(client, "heartbeat")
        self._promote = load_script(client, "promote")
        self._reap = load_script(client, "reap")
        self._refuse = load_script(client, "refuse")
        self._retry = load_script(client, "retry")
        self._reader = EntryReader(client, owner=owner, keys=keys, max_job_bytes=max_job_bytes)
        self._takeover = Takeover(
            client,
            owner=owner,
            keys=keys,
            reader=self._reader,
            settling=self._settling,
            lease_ms=round(lease_seconds * 1000),
            max_crashes=max_crashes,
            clock=clock,
        )
        self.stranded = Stranded(client, keys=keys, reader=self._reader)
        self.healing = Healing(
            client, owner=owner, keys=keys, reader=self._reader, settling=self._settling
        )

    def create_group(self) -> None:
        """Create the consumer group at 0 on every lane: what was enqueued earlier counts."""
        for stream in self.keys.lanes:
            try:
                self._client.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def read(self, free: int) -> list[Delivery]:
        """At most `free` new entries, without waiting: see `EntryReader.read`."""
        return self._reader.read(free)

    def read_blocking(self, free: int, *, block_seconds: float) -> list[Delivery]:
        """Wait for new entries in any lane: see `EntryReader.read_blocking`."""
        return self._reader.read_blocking(free, block_seconds=block_seconds)

    def paused(self) -> frozenset[Lane]:
        """The lanes that an operator has paused, as known half a second ago at most."""
        return self._reader.pauses.recent()

    def recover(self, held: Callable[[Lane, str], bool], limit: int) -> list[Delivery]:
        """Entries that were given to us, and never came: see `EntryReader.recover`."""
        return self._reader.recover(held, limit)

    def refuse(self, deliveries: Sequence[Delivery]) -> int:
        """End entries that are oversized, as `failed`; returns how many were ours to end."""
        reply = self._refuse(
            keys=[self.keys.lane(delivery.lane) for delivery in deliveries],
            args=[
                *self._settling,
                self.owner,
                *(x for d in deliveries for x in (d.lane.value, d.entry, d.count)),
            ],
        )
        return int(reply)

    def begin(self, deliveries: Sequence[Delivery], *, alone: bool = False) -> list[Begun]:
        """Begin a batch, in order; only those with Verdict.RUN are to be run.

        `alone` promises that nothing else is armed in this process, and nothing will be meanwhile.
        """
        reply = self._begin(
            keys=[self.keys.lane(delivery.lane) for delivery in deliveries],
            args=[
                *self._settling,
                self.owner,
                "alone" if alone else "company",
                *(x for d in deliveries for x in (d.lane.value, d.entry, d.count)),
            ],
        )
        return [
            Begun(delivery, Verdict(verdict.decode()), job.decode(), *map(int, rest))
            for delivery, (verdict, job, *rest) in zip(deliveries, reply, strict=True)
        ]

    def heartbeat(
        self, held: Sequence[tuple[Delivery, str]], *, renew: bool = True
    ) -> list[Delivery]:
        """Renew the leases of entries (with job ids, '' if not begun); returns those not ours.

        Without `renew` the leases run on: of those that were lost, the evidence is withdrawn.
        """
        lost: list[Delivery] = []
        for first in range(0, len(held), HEARTBEAT_CHUNK):
            chunk = held[first : first + HEARTBEAT_CHUNK]
            places = self._heartbeat(
                keys=[self.keys.lane(delivery.lane) for delivery, _ in chunk],
                args=[
                    *self._settling,
                    self.owner,
                    int(renew),
                    *(x for d, job_id in chunk for x in (d.entry, d.count, job_id)),
                ],
            )
            lost += [chunk[place - 1][0] for place in places]
        return lost

    def reclaim(self, limit: int, *, suspects: int = 1, given_back_only: bool = False) -> Reclaimed:
        """Take over at most `limit` entries whose lease ran out, or that were given back.

        At most `suspects` of them are suspects; the others of those stay where they are.
        """
        return self._takeover(limit, suspects=suspects, given_back_only=given_back_only)

    def finish(self, endings: Iterable[tuple[Begun, Ending]]) -> list[Outcome | RedisError]:
        """End jobs, in order, in one round trip; an error for each that the server refused."""
        asked = list(endings)
        if not asked:
            return []
        # What all that are done have in common is sent once.
        done = [ending.common for _, ending in asked if ending.status is Status.DONE]
        common = done[0] if done and all(each == done[0] for each in done) else {}
        args = [*self._settling, self.owner, 2 * len(common), *_flat(common)]
        for begun, ending in asked:
            own = ending.fields if common else ending.all_fields
            args += [
                begun.delivery.entry,
                begun.delivery.count,
                begun.job_id,
                ending.status.value,
                begun.delivery.lane.value,
                ending.dead_reason,
                2 * len(own),
                *_flat(own),
            ]
        try:
            replies = self._finish(
                keys=[self.keys.lane(begun.delivery.lane) for begun, _ in asked], args=args
            )
        except ResponseError as error:
            return [error for _ in asked]
        return [_outcome(reply.decode("utf-8", "replace")) for reply in replies]

    def retry(self, begun: Begun, *, delay_seconds: float, code: str, message: str) -> Outcome:
        """Put a job aside until `delay_seconds` have passed."""
        reply = self._retry(
            keys=[self.keys.lane(begun.delivery.lane)],
            args=[
                *self._settling,
                self.owner,
                begun.delivery.entry,
                begun.delivery.count,
                begun.job_id,
                begun.delivery.lane.value,
                round(delay_seconds * 1000),
                code,
                message,
            ],
        )
        return Outcome(reply.decode())

    def promote(self, limit: int = 1000, *, postpone_seconds: float = 5.0) -> Promoted:
        """Move retries that are due back to their lanes; postpone those whose lane takes none."""
        due, postponed, why = self._promote(
            keys=[self.keys.delayed],
            args=[*self._settling, limit, round(1000 * postpone_seconds)],
        )
        return Promoted(due, postponed, why.decode())

    def give_back(self, held: Sequence[tuple[Delivery, str]]) -> int:
        """Hand entries (with job ids, '' if not begun) to whoever reads next; returns how many."""
        return self._hand_over(held, "").count(GivenBack.GIVEN)

    def excuse(self, begun: Sequence[Begun], *, counted: bool) -> list[GivenBack]:
        """The same for jobs that a machine failed, where `counted`, or a store that is away."""
        held = [(each.delivery, each.job_id) for each in begun]
        return self._hand_over(held, MAX_SICK_MACHINES if counted else "")

    def _hand_over(self, held: Sequence[tuple[Delivery, str]], most: int | str) -> list[GivenBack]:
        if not held:
            return []
        reply = self._give_back(
            keys=[self.keys.lane(delivery.lane) for delivery, _ in held],
            args=[
                self.keys.prefix,
                GROUP,
                self.owner,
                most,
                *(x for d, job_id in held for x in (d.lane.value, d.entry, d.count, job_id)),
            ],
        )
        return [GivenBack(verdict.decode()) for verdict in reply]

    def reap(self, *, idle_seconds: float) -> int:
        """Remove consumers that hold nothing and have been silent; returns how many."""
        return int(self._reap(keys=self.keys.lanes, args=[GROUP, "", round(idle_seconds * 1000)]))

    def leave(self) -> None:
        """Remove this worker from the group, where it holds nothing."""
        self._reap(keys=self.keys.lanes, args=[GROUP, self.owner, _DAY_MS])


def _flat(fields: Fields) -> Iterable[str | int | float]:
    """Name and value in turn."""
    return chain.from_iterable(fields.items())


def _outcome(reply: str) -> Outcome | RedisError:
    """What became of a job; or what the server says that it met."""
    try:
        return Outcome(reply)
    except ValueError:
        return ResponseError(reply)


def as_field(value: Any) -> str:
    """A value as a result hash shows it: text as it is, numbers plain, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return _ENCODER.encode(value)
