"""Many seeds, and the table of them in docs/delivery.md."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from storage.wire.messages import Status
from tests.chaos.fleet import Nursery
from tests.chaos.plan import Fault, draw
from tests.chaos.random_run import Report, run
from tests.support.worker_process import ROOT

PAGE = ROOT / "docs" / "delivery.md"
_BEGIN, _END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_ENDS = (Status.DONE, Status.FAILED, Status.DEAD, Status.EXPIRED, Status.CANCELLED)
_COLUMNS = (
    "seed",
    "jobs",
    "workers killed, died of jobs",
    "stopped",
    "drained",
    "server kills, stops",
    "store faults, lost stores",
    "done / failed / dead / expired / cancelled",
    "fenced",
    "verdict",
)


def run_seeds(
    seeds: Sequence[int],
    *,
    seconds: float,
    workers: int,
    directory: Path,
    parent: Nursery,
    say: Callable[[str], None],
) -> list[Report]:
    """One run after another."""
    reports = []
    for seed in seeds:
        reports.append(run(draw(seed, seconds, workers), directory / f"seed-{seed}", parent, say))
        say(_row(reports[-1]) + "\n")
    return reports


def write_table(reports: Sequence[Report], page: Path = PAGE) -> None:
    """Put the table between its markers. Raises ValueError where the page has none."""
    text = page.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{page.name}: no {_BEGIN} … {_END} below the heading of the chaos runs")
    plan = reports[0].plan
    held = sum(report.held for report in reports)
    lines = [
        _BEGIN,
        f"{len(reports)} seeds of {plan.seconds:g} s with {plan.workers} workers: {held} passed.",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "| " + " | ".join("---" for _ in _COLUMNS) + " |",
        *map(_row, reports),
        _END,
    ]
    between = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
    page.write_text(between.sub(lambda _: "\n".join(lines), text), encoding="utf-8")


def _row(report: Report) -> str:
    struck, failed = report.struck, [each.name for each in report.checks if not each.held]
    cells = [
        report.plan.seed,
        sum(report.ends.values()),
        f"{struck[Fault.KILL_WORKER]}, {report.died_of_jobs}",
        struck[Fault.PAUSE_WORKER],
        struck[Fault.DRAIN_WORKER],
        f"{struck[Fault.KILL_SERVER]}, {struck[Fault.PAUSE_SERVER]}",
        f"{report.store_faults}, {struck[Fault.LOSE_STORE]}",
        " / ".join(str(report.ends[status.value]) for status in _ENDS),
        f"{report.fenced:.0f}",
        "FAIL: " + "; ".join(failed) if failed else "pass",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"
