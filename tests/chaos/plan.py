"""What a run will do, drawn from its seed alone: every job, and every fault with its time."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum

from storage.wire.messages import Lane
from tests.chaos.kinds import Kind, clips

LEASE_SECONDS = 1.0
JOBS_A_SECOND = 60
_SPREAD = 0.8  # jobs and faults come within this share of the run
_SHARES = {
    Kind.GOOD: 62,
    Kind.ENCODED: 6,
    Kind.FLAKY: 8,
    Kind.SLOW: 4,
    Kind.MISSING: 4,
    Kind.CORRUPT: 4,
    Kind.INVALID: 2,
    Kind.LATE: 2,
    Kind.TIGHT: 4,
    Kind.CANCELLED: 4,
}
# One of these for every so many seconds: each costs a worker several times, or its tries.
_POISON_SECONDS = {Kind.KILL_WORKER: 15, Kind.KILL_DECODER: 10, Kind.OVERSIZED: 10}
KILL_WORKER_KEYS = ("kill-worker-fetch.wav", "kill-worker-infer.wav")


class Way(StrEnum):
    """How a job is enqueued."""

    XADD = "XADD"  # its id is the entry's
    NAMED_XADD = "XADD with an id"
    SUBMIT = "submit"
    SUBMIT_TWICE = "submit twice"


class Fault(StrEnum):
    """What is done to the programs."""

    KILL_WORKER = "kill -9 a worker"
    PAUSE_WORKER = "stop and continue a worker"
    DRAIN_WORKER = "SIGTERM a worker"
    KILL_DECODER = "kill -9 a decode process"
    KILL_SERVER = "kill -9 the server"
    PAUSE_SERVER = "stop and continue the server"
    STORE_REFUSES = "the store answers 503"
    STORE_HANGS = "the store hangs"
    STORE_IS_SLOW = "the store is slow"
    STORE_CUTS = "the store cuts off bodies"
    LOSE_STORE = "a worker's store vanishes and comes back"


WORKER_FAULTS = (
    Fault.KILL_WORKER,
    Fault.PAUSE_WORKER,
    Fault.DRAIN_WORKER,
    Fault.KILL_DECODER,
)
_BATCHES = 3
_ONE_BATCH = "chaos-all"
STORE_FAULTS = (Fault.STORE_REFUSES, Fault.STORE_HANGS, Fault.STORE_IS_SLOW, Fault.STORE_CUTS)
# Each strikes once in so many seconds on average, and lasts between these.
_RATES: dict[Fault, tuple[float, float, float]] = {
    Fault.KILL_WORKER: (5, 0, 0),
    Fault.PAUSE_WORKER: (5, 0.3, 3.0),
    Fault.DRAIN_WORKER: (8, 0, 0),
    Fault.KILL_DECODER: (8, 0, 0),
    Fault.KILL_SERVER: (15, 0, 0),
    Fault.PAUSE_SERVER: (10, 0.3, 1.2 * LEASE_SECONDS),
    **dict.fromkeys(STORE_FAULTS, (15.0, 0.2, 1.0)),
    Fault.LOSE_STORE: (8, 0.3, 3.0),
}


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job to be enqueued; times in seconds from the start of the run."""

    number: int
    at_seconds: float
    kind: Kind
    key: str
    clip: str  # the good object that the key names; '' where it names none
    lane: Lane
    way: Way
    deadline_seconds: float | None = None  # from when it is enqueued
    again_seconds: float | None = None  # submitted again so much later
    cancel_seconds: float | None = None  # cancelled so much later
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault, when it strikes, and for how long it lasts."""

    at_seconds: float
    fault: Fault
    slot: int
    lasts_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    seconds: float
    workers: int
    jobs: tuple[PlannedJob, ...]
    strikes: tuple[Strike, ...]
    sealed: str | None = None  # the batch of all jobs, which is sealed before the first of them

    def aliases(self) -> dict[str, str]:
        """Keys beside those of the good objects, and the object each stands for."""
        poison = dict.fromkeys(KILL_WORKER_KEYS, "plain-3.wav")
        return poison | {job.key: job.clip for job in self.jobs if job.clip and job.key != job.clip}

    def describe(self) -> str:
        """The plan in short: two runs with the same digest do the same."""
        digest = hashlib.sha256(repr((self.jobs, self.strikes)).encode()).hexdigest()[:12]
        kinds = Counter(job.kind.value for job in self.jobs)
        ways = Counter(job.way.value for job in self.jobs)
        lines = [
            f"seed {self.seed}, {self.seconds:g} s, {self.workers} workers, plan {digest}",
            f"{len(self.jobs)} jobs: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()),
            "enqueued by " + ", ".join(f"{way}: {n}" for way, n in ways.items()),
        ]
        for strike in self.strikes:
            where = f" {strike.slot}" if strike.fault in WORKER_FAULTS else ""
            lasts = f" for {strike.lasts_seconds:.2f} s" if strike.lasts_seconds else ""
            lines.append(f"{strike.at_seconds:7.2f} s  {strike.fault}{where}{lasts}")
        return "\n".join(lines)


def callback_of(job: PlannedJob) -> str | None:
    """Where a job's end is to be told; None for every other one, and for what nobody can read."""
    if job.number % 2 or job.number < 0 or job.kind is Kind.OVERSIZED:
        return None
    return f"https://hooks.example.org/{job.number}"


def draw(seed: int, seconds: float, workers: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    jobs = _jobs(rng, seconds)
    strikes = [
        Strike(
            at_seconds=rng.uniform(1.0, seconds),
            fault=fault,
            slot=rng.randrange(workers),
            lasts_seconds=rng.uniform(shortest, longest),
        )
        for fault, (every_seconds, shortest, longest) in _RATES.items()
        for _ in range(max(1, round(seconds / every_seconds)))
    ]
    strikes.sort(key=lambda strike: strike.at_seconds)
    return Plan(seed, seconds, workers, tuple(jobs), tuple(strikes))


def draw_batch(seed: int, jobs: int, workers: int) -> Plan:
    """The plan of a seed whose jobs are so many in one batch, which is sealed before they come.

    All are submitted, and once: a repeat would count, and nobody could say beforehand how many.
    """
    plan = draw(seed, jobs / JOBS_A_SECOND, workers)
    # In the place of those that `submit` cannot send, there are good ones.
    kinds = {Kind.INVALID: Kind.GOOD}
    members = [
        replace(
            job,
            kind=kinds.get(job.kind, job.kind),
            way=Way.SUBMIT,
            again_seconds=None,
            batch=_ONE_BATCH,
        )
        for job in plan.jobs
        if job.kind is not Kind.OVERSIZED
    ]
    return replace(plan, jobs=tuple(members[:jobs]), sealed=_ONE_BATCH)


def _jobs(rng: random.Random, seconds: float) -> list[PlannedJob]:
    good = sorted(clips())
    plain = [key for key in good if key.startswith("plain")]
    encoded = [key for key in good if not key.startswith("plain")]
    count = round(seconds * JOBS_A_SECOND)
    kinds = rng.choices(list(_SHARES), weights=list(_SHARES.values()), k=count)
    for kind, every_seconds in _POISON_SECONDS.items():
        kinds += [kind] * max(1, round(seconds / every_seconds))
    jobs = []
    for number, kind in enumerate(kinds):
        clip = ""
        match kind:
            case Kind.MISSING:
                key = f"missing-{number}.wav"
            case Kind.CORRUPT:
                key = rng.choice(["corrupt-page.mp3", "corrupt-noise.wav", "corrupt-empty.wav"])
            case Kind.KILL_DECODER:
                key = "kill-decoder.mp3"
            case Kind.OVERSIZED:
                key = f"oversized-{number}.wav"
            case Kind.KILL_WORKER:
                key = KILL_WORKER_KEYS[number % len(KILL_WORKER_KEYS)]
            case Kind.FLAKY:
                clip = rng.choice(good)
                key = f"flaky-{rng.randint(1, 2)}-{number}-{clip}"
            case Kind.SLOW | Kind.CANCELLED:
                clip = rng.choice(plain)
                key = f"slow-{clip}" if rng.random() < 0.7 else clip
            case Kind.ENCODED:
                key = clip = rng.choice(encoded)
            case _:
                key = clip = rng.choice(plain)
        jobs.append(_job(rng, number, kind, (key, clip), seconds))
    return sorted(jobs, key=lambda job: job.at_seconds)


def _job(
    rng: random.Random, number: int, kind: Kind, names: tuple[str, str], seconds: float
) -> PlannedJob:
    """When and how a job is sent; `names` are its key and clip."""
    way = rng.choice(list(Way))
    if kind is Kind.CANCELLED:  # somebody must know its id
        way = Way.SUBMIT
    if kind is Kind.OVERSIZED:  # nobody reads which id it was given
        way = Way.XADD
    poisonous = kind in _POISON_SECONDS
    # What kills again and again comes early, or the others would wait for it at the end.
    at_seconds = rng.uniform(0, _SPREAD * seconds * (0.5 if poisonous else 1.0))
    deadlines = {Kind.LATE: -60.0, Kind.TIGHT: rng.uniform(0.1, 3.0), Kind.GOOD: 3600.0}
    # Every tenth good job has a deadline far away.
    has_deadline = kind in (Kind.LATE, Kind.TIGHT) or (kind is Kind.GOOD and number % 10 == 0)
    return PlannedJob(
        number=number,
        at_seconds=at_seconds,
        kind=kind,
        key=names[0],
        clip=names[1],
        lane=rng.choice(list(Lane)),
        way=way,
        deadline_seconds=deadlines[kind] if has_deadline else None,
        again_seconds=rng.uniform(0.0, 4.0) if way is Way.SUBMIT_TWICE else None,
        cancel_seconds=rng.uniform(0.0, 1.0) if kind is Kind.CANCELLED else None,
        # None where nobody may know whether it was sent.
        batch=None if way is Way.XADD else f"chaos-{number % _BATCHES}",
    )
