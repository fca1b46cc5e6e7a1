"""`doctor`: what is wrong with this machine, and with all that a worker needs."""

import sys
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from storage.settings import InvalidSettings, load
from storage.terminal import logs
from storage.terminal.text import json_line, say
from worker.audio.confinement import hide_memory
from worker.commands.program import EXIT_FAILED, PAGE_WIDTH
from worker.settings import WorkerSettings


def doctor(
    pre: Annotated[
        bool, typer.Option("--pre", help="Only this machine: no Redis, store or model is asked.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.0, help="Jobs a second that Redis has to keep. Default: as measured."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Look at all that a worker needs, and say what to do. Exits with 1 where something fails."""
    hide_memory()  # what tries to get out of the sandbox runs as the same user
    # The checks say themselves what the parts that they try would log.
    logs.configure("critical")
    from worker.doctor.examination import (  # noqa: PLC0415 (the light commands start fast)
        examination,
        without_settings,
    )
    from worker.doctor.findings import State  # noqa: PLC0415 (as above)
    from worker.doctor.show import as_json as to_json  # noqa: PLC0415 (as above)
    from worker.doctor.show import table, worst  # noqa: PLC0415 (as above)

    try:
        looking = examination(load(WorkerSettings), pre=pre, rate=rate)
    except InvalidSettings as error:
        looking = without_settings(error.problems)
    with Console(stderr=True).status("looking around") if sys.stderr.isatty() else nullcontext():
        findings = list(looking)
    if as_json:
        say(json_line(to_json(findings)))
    else:
        Console(width=None if sys.stdout.isatty() else PAGE_WIDTH).print(table(findings))
    found = worst(findings)
    if found is State.FAIL or (strict and found is State.WARN):
        raise typer.Exit(EXIT_FAILED)
