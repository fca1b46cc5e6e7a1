"""The invariants of a run, each checked on its own, and how they are printed."""

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.wire.messages import Status, default_entry
from tests.chaos.arena import Arena, Hash
from tests.chaos.fleet import Worker
from tests.chaos.kinds import DONE, ENDS, POISONOUS, Kind
from tests.chaos.ledger import Entry, Ledger

_SHOWN = 8
_SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: whether it held, the figures it was judged by, and what broke it.

    One that could not be `tested` here holds nothing, and breaks nothing.
    """

    name: str
    figures: str
    problems: tuple[str, ...] = ()
    tested: bool = True

    @property
    def held(self) -> bool:
        """Whether nothing broke it."""
        return not self.problems


def check(name: str, figures: str, problems: Iterable[str] = ()) -> Check:
    """A check that held where there are no problems."""
    return Check(name, figures, tuple(problems))


def require(name: str, held: bool, figures: str) -> Check:
    """A check that held, or did not."""
    return Check(name, figures, () if held else (figures,))


def untested(name: str, why: str) -> Check:
    """A check that this machine does not allow."""
    return Check(name, f"not tested: {why}", tested=False)


def table(checks: Sequence[Check]) -> str:
    """PASS, FAIL or SKIP a line, with figures; below each that failed, what broke it."""
    width = max(len(each.name) for each in checks)
    lines = []
    for each in checks:
        verdict = "SKIP" if not each.tested else "PASS" if each.held else "FAIL"
        lines.append(f"{verdict}  {each.name:{width}}  {each.figures}")
        lines += [f"      - {problem}" for problem in each.problems[:_SHOWN]]
        if len(each.problems) > _SHOWN:
            lines.append(f"      - and {len(each.problems) - _SHOWN} more")
    return "\n".join(lines)


class Inspection:
    """What a finished run left behind, against the book."""

    def __init__(self, arena: Arena, ledger: Ledger, calm: dict[str, Hash]) -> None:
        """`calm` holds the result of every good object as an undisturbed worker gave it."""
        self.results = arena.results()
        self._ledger = ledger
        self._calm = calm
        self._runs: dict[str, list[str]] = defaultdict(list)
        self._died: Counter[tuple[str, str]] = Counter()  # jobs and their runs
        for event in arena.events():
            self._runs[event["job"]].append(event.get("run", "?"))
            if event.get("status") == Status.DEAD:
                self._died[event["job"], event.get("run", "?")] += 1
        self._letters = arena.letters()
        self._arena = arena

    def checks(self) -> list[Check]:
        """All of them."""
        return [
            self._ends(),
            self._events(),
            self._labels(),
            self._strangers(),
            self._dead(),
            self._cancelled(),
            self._left_overs(),
            self._hashes(),
        ]

    def _ends(self) -> Check:
        problems = []
        for job, entry in self._ledger.entries.items():
            found = self.results.get(job, {})
            end = (found.get("status", "nothing"), found.get("error_code", ""))
            if end not in ENDS[entry.planned.kind]:
                problems.append(_about(job, entry, found))
        return check(
            "every job ends once, as its kind must",
            f"{len(self._ledger.entries)} jobs: {_counted(self.results)}",
            problems,
        )

    def _events(self) -> Check:
        problems = []
        for job in self._ledger.entries:
            runs = int(self.results.get(job, {}).get("run", 1))
            told = sorted(self._runs.get(job, []))
            if told != sorted(str(run) for run in range(1, runs + 1)):
                problems.append(f"{job}: run {runs}, events of runs {told}")
        repeated = sum(len(told) > 1 for told in self._runs.values())
        return check(
            "one event for each job and run",
            f"{sum(map(len, self._runs.values()))} events, {repeated} jobs with several runs",
            problems,
        )

    def _labels(self) -> Check:
        problems, compared = [], 0
        for job, entry in self._ledger.entries.items():
            found = self.results.get(job, {})
            if found.get("status") != Status.DONE or not entry.planned.clip:
                continue
            compared += 1
            calm = self._calm[entry.planned.clip]
            off = abs(float(found["score"]) - float(calm["score"]))
            if found["label"] != calm["label"] or off > _SCORE_TOLERANCE:
                problems.append(
                    f"{job}, {entry.planned.key}: {found['label']} {found['score']}, "
                    f"calm {calm['label']} {calm['score']}"
                )
        return check("results are those of a calm run", f"{compared} compared", problems)

    def _strangers(self) -> Check:
        """Jobs that nobody confirmed: at most as many as were not answered."""
        strangers = [job for job in self._runs if job not in self._ledger.entries]
        problems = [f"{job}: not in the book" for job in strangers if default_entry(job) is None]
        problems += [
            f"{job}: events of runs {self._runs[job]}"
            for job in strangers
            if self._runs[job] != ["1"]
        ]
        allowed = len(self._ledger.unanswered)
        if len(strangers) > allowed:
            problems.append(f"{len(strangers)} jobs came of {allowed} unanswered XADDs")
        return check(
            "no job comes from nowhere",
            f"{len(strangers)} of {allowed} unanswered XADDs had been done",
            problems,
        )

    def _dead(self) -> Check:
        problems = []
        poisonous = 0
        for letter in self._letters:
            entry = self._ledger.entries.get(letter["_job"])
            if entry and entry.planned.kind in POISONOUS:
                poisonous += 1
            elif entry or not self._ledger.unanswered:
                problems.append(f"{letter['_job']}: {letter}")
        told = Counter((letter["_job"], letter.get("_run", "?")) for letter in self._letters)
        for (job, run), count in self._died.items():
            if told[job, run] != count:
                problems.append(
                    f"{job}: run {run} ended as dead, and {told[job, run]} letters tell of it"
                )
        problems += [
            f"{job}: a letter tells of run {run}, which did not end as dead"
            for job, run in told
            if (job, run) not in self._died
        ]
        return check(
            "the poisonous are dead letters, each once, and no others",
            f"{poisonous} dead letters",
            problems,
        )

    def _cancelled(self) -> Check:
        problems = []
        told: Counter[str] = Counter()
        for job, entry in self._ledger.entries.items():
            if entry.planned.kind is not Kind.CANCELLED:
                continue
            verdict = entry.cancelled.value if entry.cancelled else "unanswered"
            told[verdict] += 1
            status = self.results.get(job, {}).get("status")
            if (verdict, status) not in {
                ("CANCELLED", Status.CANCELLED.value),
                ("ENDED", Status.DONE.value),
                ("unanswered", Status.DONE.value),
                ("unanswered", Status.CANCELLED.value),
            }:
                problems.append(f"{job}: told {verdict}, and it is {status}")
        return check("cancelled stays cancelled", _shown(told), problems)

    def _left_overs(self) -> Check:
        arena = self._arena
        figures = {
            "queued": arena.queued(),
            "in flight": arena.pending(),
            "delayed": arena.delayed(),
            "delayed payloads": sum(1 for _ in arena.client.scan_iter("emo:delayed:*")),
        }
        return check(
            "nothing is left in lanes, pending lists, delayed",
            _shown(figures),
            [f"{count} {what}" for what, count in figures.items() if count],
        )

    def _hashes(self) -> Check:
        """Internal fields go when a job ends, and every result has its time to live."""
        problems = []
        with self._arena.client.pipeline(transaction=False) as batch:
            for job in self.results:
                batch.pttl(self._arena.keys.result(job))
            times = batch.execute()
        for (job, found), left_ms in zip(self.results.items(), times, strict=True):
            internal = [name for name in found if name.startswith("_")]
            if internal or left_ms < 0:
                problems.append(f"{job}: {found.get('status')}, PTTL {left_ms}, {internal}")
        return check("ended hashes are clean and expire", f"{len(times)} hashes", problems)


def check_exits(workers: Sequence[Worker]) -> Check:
    """Workers end only as they were told: by SIGTERM with 0, by SIGKILL, or of a deadly job.

    One that finds no server when it starts says so and ends with 1, for others to start it again.
    """
    ends: Counter[str] = Counter()
    problems = []
    for worker in workers:
        match worker.status:
            case None:
                ends["alive"] += 1
            case 0 if signal.SIGTERM in worker.told:
                ends["drained"] += 1
            case -9 if worker.died_of_job:
                ends["died of a job"] += 1
            case -9 if signal.SIGKILL in worker.told:
                ends["killed"] += 1
            case 1 if not worker.events("worker.ready"):
                ends["found no server"] += 1
            case status:
                said = worker.log.read_text(errors="replace").splitlines()[-3:]
                problems.append(f"{worker.log.name}: exit status {status}: {said}")
    return check("workers end as they are told", _shown(ends), problems)


def check_consumers(arena: Arena) -> Check:
    """No consumer is left of those who died."""
    living = {worker.owner for worker in arena.fleet.living()}
    left = arena.consumers()
    return check(
        "no consumer is left but the living",
        f"{len(left)} consumers, {len(living)} workers",
        [f"{name}: is dead" for name in sorted(left) if name not in living],
    )


def stuck(arena: Arena, ledger: Ledger) -> list[str]:
    """What has not come to an end, and where it is."""
    results = arena.results()
    lines = []
    for job, entry in ledger.entries.items():
        found = results.get(job, {})
        if not found or not Status(found["status"]).terminal:
            lines.append(_about(job, entry, found))
    for lane in arena.keys.lanes:
        summary = arena.client.xpending(lane, "workers")
        if summary["pending"]:
            lines.append(f"{lane}: {summary}")
    return [*lines, f"delayed: {arena.delayed()}, queued: {arena.queued()}"]


def end_of(result: Hash) -> tuple[str, str]:
    """Status and error code."""
    return result.get("status", "nothing"), result.get("error_code", "")


def is_done(result: Hash) -> bool:
    """Whether it ended with a result."""
    return end_of(result) == DONE


def _about(job: str, entry: Entry, found: Hash) -> str:
    planned = entry.planned
    return f"{job} ({planned.kind}, {planned.key}, {planned.lane}, {planned.way}): {found}"


def _counted(results: dict[str, Hash]) -> str:
    return _shown(Counter(found.get("status", "nothing") for found in results.values()))


def _shown(figures: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in figures.items()) or "none"
