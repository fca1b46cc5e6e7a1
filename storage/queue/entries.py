"""What is said of an entry of a lane, between Redis and those who work on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from storage.wire.messages import GROUP, Keys, Lane, Status, pairs

Fields = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry handed to this worker; (entry, count) is the fence.

    `listed` are its fields, name and value in turn, as Redis lists them. One that is `oversized`
    was not read, and may be ended only: no script looks at it either.
    """

    lane: Lane
    entry: str
    count: int
    listed: Sequence[bytes]
    oversized: bool = False

    @property
    def added_seconds(self) -> float:
        """When it was added, as its id says; whoever adds an entry may choose that."""
        return int(self.entry.partition("-")[0]) / 1000

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """Its fields; of a name that is repeated, the last one."""
        return pairs(self.listed)


class Verdict(StrEnum):
    """What begin says of an entry. RUN is to be run, SUSPECT alone; the rest is dealt with."""

    RUN = "RUN"
    SUSPECT = "SUSPECT"  # it may only run alone; it is still ours, and nothing has changed
    ENDED = "ENDED"  # its job is terminal
    REPEATED = "REPEATED"  # its job lives under another entry
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"  # its batch was
    PAUSED = "PAUSED"  # its lane is; it was given back
    FENCED = "FENCED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Begun:
    """A delivery that begin looked at, with what Redis knows of its job."""

    delivery: Delivery
    verdict: Verdict
    job_id: str
    attempts: int = 1
    deliveries: int = 1
    crashes: int = 0
    run: int = 1
    enqueued_ms: int = 0


class Outcome(StrEnum):
    """What became of a finish or a retry."""

    SETTLED = "SETTLED"
    RETRYING = "RETRYING"
    EXPIRED = "EXPIRED"
    ALREADY = "ALREADY"  # the job was terminal; nothing changed
    FENCED = "FENCED"  # the entry is no longer ours; nothing changed
    GONE = "GONE"


class GivenBack(StrEnum):
    """What became of an entry that was to be given back."""

    GIVEN = "GIVEN"
    FENCED = "FENCED"  # the entry is no longer ours; nothing changed
    OFTEN = "OFTEN"  # machines have given it back often enough; it is still ours


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends. `dead_reason` makes it a dead letter as well.

    `common` are fields that all have which are done by the same worker.
    """

    status: Status
    fields: Fields
    dead_reason: str = ""
    common: Fields = field(default_factory=dict)

    @property
    def all_fields(self) -> Fields:
        """What its result says."""
        return {**self.common, **self.fields}


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a look for abandoned entries found; `dead` are the jobs that are dead letters now.

    `gone` entries had been deleted, `refused` ones were oversized: both have ended.

    `held_up`: it was long on its way, or the server's clock jumped ahead. No lease can be trusted
    for as long as one lasts, and this look took only what was given back.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    gone: int = 0
    dead: list[str] = field(default_factory=list)
    refused: int = 0
    held_up: bool = False


@dataclass(frozen=True, slots=True)
class Promoted:
    """Retries that were due, how many of them their lanes did not take now, and why."""

    due: int
    postponed: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ends:
    """How ends are kept: the lifetime of a result, and how many events there are of them."""

    result_ttl_seconds: float = 86_400
    results_maxlen: int = 1_000_000

    @property
    def limits(self) -> list[str | int]:
        """Milliseconds, and a count, as scripts are told them."""
        return [round(self.result_ttl_seconds * 1000), self.results_maxlen]

    def settling(self, keys: Keys) -> list[str | int]:
        """The first arguments of every script that can end a job."""
        return [keys.prefix, GROUP, *self.limits]
