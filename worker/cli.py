"""The worker's command line."""

import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from storage.settings import InvalidSettings, table
from storage.terminal.text import json_line, say, tell
from worker.audio.confinement import hide_memory
from worker.bench.clips import Lengths
from worker.bench.report import Part
from worker.bench.stores import Format, Store
from worker.commands.classify import classify
from worker.commands.doctor import doctor
from worker.commands.gpu import gpu
from worker.commands.program import (
    ASK_THE_DOCTOR,
    EXIT_FAILED,
    EXIT_HUB_UNREACHABLE,
    EXIT_SETTINGS,
    PAGE_WIDTH,
    Device,
    Dtype,
    Model,
    configure_logs,
    drain_on_signals,
    fail,
    heavy_imports,
    libraries,
    load_settings,
    open_engine,
    require_spool,
)
from worker.pipeline.capacity import raise_limit
from worker.settings import WorkerSettings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(classify)
app.command()(doctor)
app.command()(gpu)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """The worker of emostream; without a command, `run`."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Take jobs from Redis until SIGTERM."""
    hide_memory()  # decode processes run as the same user
    settings = load_settings(required=("redis_url", "store"))
    configure_logs(settings.log_level)
    require_spool(settings)
    raise_limit()
    # The light commands start fast: what is heavy is imported by those that need it, when they do.
    from storage.errors import JobError  # noqa: PLC0415
    from storage.redis.connection import RedisError, UnfitServer  # noqa: PLC0415
    from storage.serving.metrics_server import listen  # noqa: PLC0415
    from worker.stores import check_services  # noqa: PLC0415

    try:
        if settings.metrics_address:
            listen(settings.metrics_address, "EMO_METRICS_ADDRESS").close()
        check_services(settings)
    except (RedisError, UnfitServer) as error:
        fail(f"EMO_REDIS_URL: {error}", ASK_THE_DOCTOR)
    except JobError as error:
        fail(str(error), ASK_THE_DOCTOR)
    except OSError as error:
        fail(f"cannot start: {error}", ASK_THE_DOCTOR)
    with libraries(), heavy_imports():
        from worker.app import Stop, Worker  # noqa: PLC0415
    try:
        worker = Worker(settings, open_engine(settings))
        drain_on_signals(worker)
        reason = worker.run()
    except (RedisError, JobError, OSError) as error:
        fail(f"cannot start: {error}", ASK_THE_DOCTOR)
    # Stage threads are daemons, and one may still be deep in native code: do not wait for it.
    with suppress(OSError):  # a full disk is no reason to end as if it had failed
        sys.stderr.flush()
    os._exit(0 if reason is Stop.ASKED else EXIT_FAILED)


@app.command()
def model(
    probe_seconds: Annotated[
        float, typer.Option(help="How long the hub may take to answer at all.")
    ] = 10.0,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="For workers that may not write there: all they need.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Directory, name and revision.")] = False,
) -> None:
    """Download and verify EMO_MODEL, and print where it is. Exits with 4 if the hub is away."""
    settings = load_settings()
    configure_logs(settings.log_level)
    if settings.model.startswith("random:"):
        return tell(f"EMO_MODEL={settings.model}: made by each worker, so nothing is downloaded")
    from worker.model import hub  # noqa: PLC0415 (only here)
    from worker.model.config import ModelError  # noqa: PLC0415
    from worker.model.manifest import ModelUnavailable  # noqa: PLC0415
    from worker.model.probe import HubUnreachable  # noqa: PLC0415

    try:
        source = hub.resolve(settings.model, settings.model_revision, probe_seconds=probe_seconds)
        if prepare:
            with libraries(), heavy_imports():
                from worker.model.weights import prepare as write_copy  # noqa: PLC0415

            write_copy(source.directory)
    except HubUnreachable as error:
        fail(str(error), status=EXIT_HUB_UNREACHABLE)
    except (ModelError, ModelUnavailable) as error:
        fail(str(error))
    if as_json:
        say(json_line({**asdict(source), "directory": str(source.directory)}))
    else:
        say(str(source.directory))


@app.command()
def bench(
    part: Annotated[Part, typer.Argument(help="What to measure.")],
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
    from storage.errors import JobError  # noqa: PLC0415
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


@app.command()
def settings() -> None:
    """Print every setting as a Markdown table: docs/settings.md."""
    say(*table(WorkerSettings).splitlines())


@app.command()
def metrics() -> None:
    """Print every metric as a Markdown table: docs/metrics.md."""
    from worker.telemetry.metrics import catalogue  # noqa: PLC0415 (only here)

    say(*catalogue().splitlines())
