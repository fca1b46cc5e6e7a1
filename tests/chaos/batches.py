"""Batches under chaos: what they counted, against the hashes of their jobs."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from storage.queue.batches import Batching
from storage.queue.cancellation import Ends
from storage.queue.steps import Driver
from storage.wire.messages import Status
from tests.chaos.arena import RESULT_TTL_SECONDS, RESULTS_MAXLEN, Arena, Hash
from tests.chaos.checks import Check, check
from tests.chaos.ledger import Ledger
from tests.chaos.plan import batch_of


def check_batches(arena: Arena, ledger: Ledger, results: Mapping[str, Hash]) -> Check:
    """Seal each batch with what was sent to it: all counts are exact, and it completes once."""
    driver = Driver(arena.client)
    batching = Batching(arena.keys, Ends(RESULT_TTL_SECONDS, RESULTS_MAXLEN))
    sent: dict[str, set[str]] = defaultdict(set)
    for job, entry in ledger.entries.items():
        if batch := batch_of(entry.planned):
            sent[batch].add(job)
    problems = []
    for batch, jobs in sorted(sent.items()):
        members = {job for job, found in results.items() if found.get("batch") == batch}
        if members != jobs:
            problems.append(f"{batch}: {len(jobs)} jobs sent, members {sorted(members ^ jobs)}")
        before = driver.run(batching.state(batch))
        repeated = before.repeated if before else 0
        state = driver.run(batching.seal(batch, len(jobs) + repeated))
        ends = Counter(results[job]["status"] for job in members)
        counted = {end.value: count for end, count in state.ends.items()}
        if counted != {end.value: ends[end.value] for end in Status if end.terminal}:
            problems.append(f"{batch}: counted {counted}, and it is {ends}")
        if state.jobs != len(members) or not state.complete:
            problems.append(f"{batch}: {state}")
    told = Counter(fields[b"batch"].decode() for _, fields in arena.client.xrange("emo:batches"))
    problems += [f"{batch}: {told[batch]} times complete" for batch in sent if told[batch] != 1]
    return check(
        "batches count each job once, and complete once",
        ", ".join(f"{batch}: {len(jobs)} jobs" for batch, jobs in sorted(sent.items())),
        problems,
    )
