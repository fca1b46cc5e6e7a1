"""`stress`: how much the service takes, and what becomes of latency on the way there."""

import re
import uuid
from pathlib import Path
from typing import Annotated

import typer

from producer.client import Contract, Lane, RedisError
from producer.program import (
    EXIT_INTERRUPTED,
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    AsJson,
    client_of,
    explained,
    fail,
    settings,
    stdout,
    store_of,
)
from producer.stress.alone import StressFailed
from producer.stress.clips import Lengths
from producer.stress.schedule import Arrivals
from storage.errors import JobError
from storage.terminal.text import json_line, say, tell

EXIT_INVALID = 5
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `1.5m`. Raises typer.BadParameter."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r}: write it as 30s, 2m or 1h")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def stress(
    *,
    files: Annotated[
        Path | None, typer.Option(help="Send the audio files of this directory.", exists=True)
    ] = None,
    clips: Annotated[
        Lengths | None, typer.Option(help="Send noise: of 1.5 to 12 s, or of 5 s each.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Open loop: jobs a second, whatever happens.")
    ] = None,
    arrivals: Annotated[
        Arrivals, typer.Option(help="How the times between jobs are spread.")
    ] = Arrivals.POISSON,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Closed loop: so many under way at a time.")
    ] = None,
    length: Annotated[
        float, typer.Option("--duration", parser=duration, metavar="TIME", help="As 30s or 2m.")
    ] = "1m",  # type: ignore[assignment] # typer parses it
    warm_up: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="Left out of the figures.")
    ] = "5s",  # type: ignore[assignment]
    drain: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="How long ends are waited for.")
    ] = "5m",  # type: ignore[assignment]
    seed: Annotated[int, typer.Option(help="Gives the same schedule and clips again.")] = 1,
    different: Annotated[
        int, typer.Option(min=1, max=10_000, help="How many clips of noise there are.")
    ] = 16,
    lane: Annotated[Lane, typer.Option(help="Which lane to use.")] = Lane.NORMAL,
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Look for the highest rate that keeps --slo.")
    ] = False,
    slo: Annotated[str | None, typer.Option(help="As p99<2s.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the run here, as JSON.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with plots here.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with a run that was kept.", exists=True)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load the service by a schedule, and tell latency, rates, and whether to believe them.

    Exits with 3 where a job had not exactly one end or not the scores that it has alone, and with
    5 where the load was not what was asked for.
    """
    from producer.stress import command  # noqa: PLC0415 (only here)

    source = clips if files is None else str(files)
    if source is None or (clips is not None and files is not None):
        fail("name what to send: --files DIR or --clips short|five", status=EXIT_SETTINGS)
    chosen = settings()
    try:
        plan = command.Plan.of(
            source,
            rate=rate,
            arrivals=arrivals,
            concurrency=concurrency,
            duration_s=length,
            warm_up_s=warm_up,
            seed=seed,
            different=different,
            lane=lane,
            objective=slo,
            search=find_max,
        )
        before = None if against is None else command.read_run(against).run
        for path in (save, page):
            command.require_writable(path)
    except (ValueError, OSError) as error:
        fail(str(error), status=EXIT_SETTINGS)
    target = command.Target(
        client=client_of(chosen),
        url=chosen.redis_url,
        contract=Contract.of(chosen),
        lane=lane,
        prefix=f"stress-{uuid.uuid4().hex[:8]}-",
        drain_seconds=drain,
    )
    try:
        kept = command.stress(
            plan, target, store=store_of(chosen), store_url=chosen.store, say=tell
        )
        if save is not None:
            save.write_bytes(command.as_json(kept))
        if page is not None:
            page.write_text(command.as_page(kept, before), encoding="utf-8")
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except (StressFailed, RedisError, JobError, OSError) as error:
        fail(explained(error))
    if as_json:
        say(json_line(command.as_object(kept)))
    else:
        console = stdout()
        for table in command.tables(kept, before):
            console.print(table.rich(), "")
    tell(*command.closing(kept, before))
    raise typer.Exit(
        {"failed": EXIT_SOME_FAILED, "invalid": EXIT_INVALID, "valid": 0}[kept.run.verdict]
    )
