"""Callbacks under chaos: what is to be told, against the hashes of the jobs."""

from collections import defaultdict
from collections.abc import Mapping

from tests.chaos.arena import Arena, Hash
from tests.chaos.checks import Check, check
from tests.chaos.ledger import Ledger
from tests.chaos.plan import callback_of


def check_callbacks(arena: Arena, ledger: Ledger, results: Mapping[str, Hash]) -> Check:
    """Each run of a job with a callback is told once, as it ended; no other job is."""
    told: dict[str, list[tuple[str, str]]] = defaultdict(list)
    problems = []
    for _, raw in arena.client.xrange("emo:webhooks"):
        fields = {name.decode(): value.decode() for name, value in raw.items()}
        told[fields["job"]].append((fields["run"], fields["status"]))
        entry = ledger.entries.get(fields["job"])
        if entry and fields["callback"] != callback_of(entry.planned):
            problems.append(f"{fields['job']}: told to {fields['callback']}")
    for job, entry in ledger.entries.items():
        found, runs = results.get(job, {}), [run for run, _ in told[job]]
        wanted = [str(run) for run in range(1, int(found.get("run", 1)) + 1)]
        if sorted(runs) != (sorted(wanted) if callback_of(entry.planned) else []):
            problems.append(f"{job}: {found.get('status')} of run {found.get('run')}, told {runs}")
        if runs and told[job][-1][1] != found.get("status"):
            problems.append(f"{job}: {found.get('status')}, told {told[job]}")
    return check(
        "each end with a callback is told once",
        f"{sum(map(len, told.values()))} to be sent",
        problems,
    )
