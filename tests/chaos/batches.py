"""Batches under chaos: what they counted, against the hashes of their jobs."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from storage.queue.batches import Batching, BatchState, Unfinished
from storage.queue.entries import Ends
from storage.queue.steps import Driver
from storage.wire.messages import Status
from tests.chaos.arena import RESULT_TTL_SECONDS, RESULTS_MAXLEN, Arena, Hash
from tests.chaos.checks import Check, check
from tests.chaos.ledger import Ledger
from tests.chaos.plan import Plan


def seal_beforehand(arena: Arena, plan: Plan) -> None:
    """Seal the batch of a plan that has one for all its jobs: it completes amid the faults."""
    if plan.sealed:
        Driver(arena.client).run(_batching(arena).seal(plan.sealed, len(plan.jobs)))


def check_batches(arena: Arena, plan: Plan, ledger: Ledger, results: Mapping[str, Hash]) -> Check:
    """All counts are exact, and each batch completes once.

    What was not sealed beforehand is sealed now, with what was sent to it.
    """
    sent: dict[str, set[str]] = defaultdict(set)
    for job, entry in ledger.entries.items():
        if batch := entry.planned.batch:
            sent[batch].add(job)
    problems = _unfinished(arena, len(sent.keys() - {plan.sealed}))
    for batch, jobs in sorted(sent.items()):
        members = {job for job, found in results.items() if found.get("batch") == batch}
        if members != jobs:
            problems.append(f"{batch}: {len(jobs)} jobs sent, members {sorted(members ^ jobs)}")
        state = _state(arena, batch) if batch == plan.sealed else _sealed(arena, batch, len(jobs))
        ends = Counter(results[job]["status"] for job in members)
        counted = {end.value: count for end, count in state.ends.items()}
        if counted != {end.value: ends[end.value] for end in Status if end.terminal}:
            problems.append(f"{batch}: counted {counted}, and it is {ends}")
        if state.jobs != len(members) or not state.complete:
            problems.append(f"{batch}: {state}")
        if batch == plan.sealed and (state.total, state.repeated) != (len(jobs), 0):
            problems.append(f"{batch}: {len(jobs)} jobs sent once each, and it is {state}")
    problems += _unfinished(arena, 0)
    told = Counter(fields[b"batch"].decode() for _, fields in arena.client.xrange("emo:batches"))
    problems += [f"{batch}: {told[batch]} times complete" for batch in sent if told[batch] != 1]
    return check(
        "batches count each job once, and complete once",
        ", ".join(f"{batch}: {len(jobs)} jobs" for batch, jobs in sorted(sent.items())),
        problems,
    )


def _unfinished(arena: Arena, still_open: int) -> list[str]:
    """What the index of batches says too much or too little of, when all jobs have ended."""
    found = Driver(arena.client).run(_batching(arena).unfinished())
    return [] if found == Unfinished(still_open, 0, 0, 0) else [f"{still_open} open, and {found}"]


def _batching(arena: Arena) -> Batching:
    return Batching(arena.keys, Ends(RESULT_TTL_SECONDS, RESULTS_MAXLEN))


def _state(arena: Arena, batch: str) -> BatchState:
    state = Driver(arena.client).run(_batching(arena).state(batch))
    assert state, f"{batch}: is gone"
    return state


def _sealed(arena: Arena, batch: str, jobs: int) -> BatchState:
    """Its state once it is sealed with those jobs, and with the repeats that it has counted."""
    driver, batching = Driver(arena.client), _batching(arena)
    before = driver.run(batching.state(batch))
    return driver.run(batching.seal(batch, jobs + (before.repeated if before else 0)))
