"""Break the delivery of jobs by every means, and see whether it holds: docs/delivery.md."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.chaos import memory, scenarios
from tests.chaos.checks import Check, table
from tests.chaos.fleet import Nursery, nursery
from tests.chaos.plan import draw, draw_batch
from tests.chaos.random_run import run
from tests.chaos.seeds import run_seeds, write_table

say = partial(print, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 where every invariant held, 1 where one did not."""
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = asked.keep or Path(temporary)
        with nursery(directory) as parent:
            return int(not asked.act(asked, directory, parent))


def _run(asked: argparse.Namespace, directory: Path, parent: Nursery) -> bool:
    plan = draw(asked.seed, asked.seconds, asked.workers)
    return run(plan, directory / f"seed-{asked.seed}", parent, say).held


def _batch(asked: argparse.Namespace, directory: Path, parent: Nursery) -> bool:
    plan = draw_batch(asked.seed, asked.jobs, asked.workers)
    return run(plan, directory / f"batch-{asked.seed}", parent, say).held


def _seeds(asked: argparse.Namespace, directory: Path, parent: Nursery) -> bool:
    reports = run_seeds(
        range(1, asked.count + 1),
        seconds=asked.seconds,
        workers=asked.workers,
        directory=directory,
        parent=parent,
        say=say,
    )
    write_table(reports)
    return all(report.held for report in reports)


def _scenario(asked: argparse.Namespace, directory: Path, parent: Nursery) -> bool:
    names = list(scenarios.SCENARIOS) if asked.name == "all" else [asked.name]
    return all([_told(name, scenarios.play(name, directory / name, parent)) for name in names])


def _memory(asked: argparse.Namespace, directory: Path, parent: Nursery) -> bool:
    return _told("memory", memory.measure(directory / "memory", parent))


def _told(name: str, checks: Sequence[Check]) -> bool:
    say(f"{name}\n{table(checks)}\n")
    return all(each.held for each in checks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--keep", type=Path, help="a new directory in which logs and data stay")
    commands = parser.add_subparsers(required=True)

    one = commands.add_parser("run", help="jobs and faults drawn from one seed")
    one.add_argument("--seed", type=int, default=1)
    one.set_defaults(act=_run)
    batch = commands.add_parser("batch", help="the same with all jobs in one batch, sealed before")
    batch.add_argument("--seed", type=int, default=1)
    batch.add_argument("--jobs", type=int, default=2000)
    batch.set_defaults(act=_batch)
    many = commands.add_parser("seeds", help="seeds 1 to COUNT; writes the table of the docs")
    many.add_argument("count", type=int)
    many.set_defaults(act=_seeds)
    for command in (one, many):
        command.add_argument("--seconds", type=float, default=60)
    for command in (one, batch, many):
        command.add_argument("--workers", type=int, default=4)

    scripted = commands.add_parser("scenario", help="one scripted fault, or all of them")
    scripted.add_argument("name", choices=[*scenarios.SCENARIOS, "all"])
    scripted.set_defaults(act=_scenario)
    much = commands.add_parser("memory", help="a worker's size after 1,000 jobs and after 10,000")
    much.set_defaults(act=_memory)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
