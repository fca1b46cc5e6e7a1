"""The random run: a plan from a seed, then calm, then the invariants."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storage.wire.messages import Lane
from tests.chaos.arena import Arena, Hash, arena
from tests.chaos.batches import check_batches, seal_beforehand
from tests.chaos.callbacks import check_callbacks
from tests.chaos.checks import (
    Check,
    Inspection,
    check,
    check_consumers,
    check_exits,
    is_done,
    stuck,
    table,
)
from tests.chaos.fleet import Nursery
from tests.chaos.kinds import Kind, clips
from tests.chaos.ledger import Enqueuer, Entry, Ledger
from tests.chaos.patience import Impatience, eventually
from tests.chaos.plan import Fault, Plan, PlannedJob, Way
from tests.chaos.strikes import Strikes

_CALM_SECONDS = 30.0
_SETTLE_SECONDS = 90.0  # for all to come to an end once the faults are over
_REAPED_SECONDS = 20.0

Say = Callable[[str], None]


@dataclass
class Report:
    """What a run came to."""

    plan: Plan
    checks: list[Check]
    struck: Counter[Fault]
    store_faults: int
    died_of_jobs: int
    ends: Counter[str] = field(default_factory=Counter)
    fenced: float = 0.0

    @property
    def held(self) -> bool:
        """Whether every invariant held."""
        return all(each.held for each in self.checks)


def run(plan: Plan, directory: Path, parent: Nursery, say: Say) -> Report:
    """Carry out a plan; `say` is told what happens."""
    say(plan.describe())
    with arena(directory, parent, plan.aliases()) as place:
        place.give_directory()
        place.fleet.start_ready(*range(plan.workers))
        calm = _calm_results(place)
        seal_beforehand(place, plan)
        enqueuer, strikes = Enqueuer(place, plan.jobs), Strikes(place, plan.strikes)
        enqueuer.start()
        try:
            strikes.run()
            ledger = enqueuer.join()
        finally:
            enqueuer.stop()
        say(f"calm again; {place.ended()} jobs have ended, {place.queued()} are in the lanes")
        ledger.entries |= {job: _calm_entry(clip) for job, clip in _calm_jobs().items()}
        checks = [_wait_for_the_end(place, ledger)]
        inspection = Inspection(place, ledger, calm)
        checks += inspection.checks()
        checks.append(check_batches(place, plan, ledger, inspection.results))
        checks.append(check_callbacks(place, ledger, inspection.results))
        with contextlib.suppress(Impatience):  # the check says who is left
            eventually(lambda: check_consumers(place).held, _REAPED_SECONDS, "the dead are reaped")
        checks.append(check_consumers(place))
        fenced = strikes.fenced + sum(
            worker.fenced() for worker in place.fleet.living() if worker.ready
        )
        place.fleet.drain()
        checks.append(check_exits(place.fleet.workers))
        say(f"{fenced:.0f} late results were fenced")
        results = place.results()
    report = Report(
        plan,
        checks,
        strikes.struck,
        sum(place.store.faults.values()),
        sum(worker.died_of_job for worker in place.fleet.workers),
        Counter(found.get("status", "nothing") for found in results.values()),
        fenced,
    )
    say(table(checks))
    return report


def _calm_jobs() -> dict[str, str]:
    """One job for each good object, by id."""
    return {f"calm-{clip}": clip for clip in sorted(clips())}


def _calm_entry(clip: str) -> Entry:
    return Entry(PlannedJob(-1, 0.0, Kind.GOOD, clip, clip, Lane.NORMAL, Way.NAMED_XADD))


def _calm_results(place: Arena) -> dict[str, Hash]:
    """What undisturbed workers make of the good objects."""
    jobs = _calm_jobs()
    for job, clip in jobs.items():
        place.client.xadd(place.keys.lane(Lane.NORMAL), {"key": clip, "job": job})
    eventually(lambda: place.ended() >= len(jobs), _CALM_SECONDS, "the calm jobs end")
    found = {clip: place.result(job) for job, clip in jobs.items()}
    wrong = {clip: result for clip, result in found.items() if not is_done(result)}
    if wrong:
        raise RuntimeError(f"good objects that a calm worker cannot do: {wrong}")
    return found


def _wait_for_the_end(place: Arena, ledger: Ledger) -> Check:
    """Wait until nothing is queued, in flight or delayed, and say what is stuck if that fails."""
    started = time.monotonic()
    stuck_jobs: list[str] = []
    try:
        eventually(place.idle, _SETTLE_SECONDS, "all ends")
    except Impatience:
        stuck_jobs = stuck(place, ledger)
    return check(
        "all comes to an end when the faults are over",
        f"after {time.monotonic() - started:.1f} s",
        stuck_jobs,
    )
