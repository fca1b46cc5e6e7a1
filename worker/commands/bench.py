"""`bench`: parts of the worker measured."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from storage.errors import JobError
from storage.settings import InvalidSettings
from storage.terminal.text import json_line, say, tell
from worker.bench.choices import Format, Lengths, Part, Store
from worker.commands.program import (
    EXIT_SETTINGS,
    PAGE_WIDTH,
    Device,
    Dtype,
    Model,
    configure_logs,
    fail,
    libraries,
    load_settings,
    open_engine,
    require_spool,
)


def bench(
    part: Annotated[Part, typer.Argument(help="What to measure.")],
    *,
    model: Model = "random:large",
    device: Device = None,
    dtype: Dtype = None,
    clips: Annotated[
        Lengths, typer.Option(help="Clips of 1.5 to 12 s, uniformly drawn, or of 5 s each.")
    ] = Lengths.SHORT,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="For each figure; or three runs, if they take longer.")
    ] = 5.0,
    store: Annotated[Store, typer.Option(help="feed: where objects lie.")] = Store.DIR,
    form: Annotated[Format, typer.Option("--format", help="feed: what they are.")] = Format.WAV,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure the engine, decoding, the search for speech, or the whole service, here."""
    settings = load_settings(model=model, device=device, dtype=dtype)
    configure_logs("warning" if settings.log_level == "info" else settings.log_level)
    require_spool(settings)
    from storage.redis.embedded import NoServer  # noqa: PLC0415

    with libraries():
        from worker.bench.command import measure  # noqa: PLC0415
        from worker.bench.service import ServiceFailed  # noqa: PLC0415
        from worker.bench.show import sheets  # noqa: PLC0415

    try:
        report = measure(
            part,
            settings,
            lambda: open_engine(settings),
            lengths=clips,
            seconds=seconds,
            store=store,
            form=form,
        )
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)
    except (JobError, NoServer, ServiceFailed) as error:
        fail(*str(error).splitlines())
    for warning in report.warnings:
        tell(f"do not trust these figures: {warning}")
    if as_json:
        say(json_line(asdict(report)))
    else:
        console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
        for sheet in sheets(report):
            console.print(sheet.rich(), "")
