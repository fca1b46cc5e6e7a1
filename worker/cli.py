"""The worker's command line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

from storage.objects.local_files import named_files
from storage.settings import InvalidSettings, load, table, unknown_variables
from storage.terminal import json_line, say, tell
from worker.audio.confinement import hide_memory
from worker.bench.clips import Lengths
from worker.bench.report import Part
from worker.pipeline.capacity import raise_limit
from worker.settings import WorkerSettings
from worker.telemetry import logs

if TYPE_CHECKING:
    from worker.classify import FileResult
    from worker.engine.engine import Engine

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_SOME_FAILED = 3
EXIT_HUB_UNREACHABLE = 4
_PAGE_WIDTH = 120  # where it is not a terminal that says its own

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
log = structlog.get_logger(__name__)

Model = Annotated[
    str | None, typer.Option(help="Directory, ModelScope id, random:large or random:tiny.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """The worker of emostream; without a command, `run`."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Take jobs from Redis until SIGTERM."""
    hide_memory()  # decode processes run as the same user
    settings = _settings(required=("redis_url", "store"))
    _configure_logs(settings.log_level)
    _require_spool(settings)
    raise_limit()
    # The light commands start fast: what is heavy is imported by those that need it.
    from storage.errors import JobError  # noqa: PLC0415
    from storage.redis.connection import RedisError, UnfitServer  # noqa: PLC0415
    from worker.app import Stop, Worker, drain_on_signals  # noqa: PLC0415
    from worker.stores import check_services  # noqa: PLC0415

    try:
        check_services(settings)
    except (RedisError, UnfitServer) as error:
        _fail(f"EMO_REDIS_URL: {error}")
    except JobError as error:
        _fail(str(error))
    try:
        worker = Worker(settings, _engine(settings))
        drain_on_signals(worker)
        reason = worker.run()
    except (RedisError, JobError, OSError) as error:
        _fail(f"cannot start: {error}")
    # Stage threads are daemons, and one may still be deep in native code: do not wait for it.
    with suppress(OSError):  # a full disk is no reason to end as if it had failed
        sys.stderr.flush()
    os._exit(0 if reason is Stop.ASKED else EXIT_FAILED)


@app.command()
def classify(
    files: Annotated[list[str], typer.Argument(help="Audio files, or directories of them.")],
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Classify files, without Redis. Exits with 3 where some failed."""
    hide_memory()
    settings = _settings(model=model, device=device, dtype=dtype)
    _configure_logs("warning" if settings.log_level == "info" else settings.log_level)
    from worker.classify import classify as classify_files  # noqa: PLC0415 (imports torch)

    _require_spool(settings)
    files = list(named_files(files))
    if not files:
        _fail("there is no audio in the directories that were named", status=EXIT_SETTINGS)

    failed = 0
    with _progress(len(files), hidden=as_json) as advance:
        engine = _engine(settings)
        if not as_json and engine.model.untrained:
            tell("UNTRAINED MODEL: the labels below mean nothing.")
        for result in _classified(classify_files(settings, engine, files)):
            failed += result.error is not None
            advance()
            fields = _fields(result)
            say(json_line(fields) if as_json else _line(fields))
    raise typer.Exit(EXIT_SOME_FAILED if failed else 0)


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
    settings = _settings()
    _configure_logs(settings.log_level)
    if settings.model.startswith("random:"):
        return tell(f"EMO_MODEL={settings.model}: made by each worker, so nothing is downloaded")
    from worker.model import hub  # noqa: PLC0415 (only here)
    from worker.model.config import ModelError  # noqa: PLC0415
    from worker.model.manifest import ModelUnavailable  # noqa: PLC0415
    from worker.model.probe import HubUnreachable  # noqa: PLC0415

    try:
        source = hub.resolve(settings.model, settings.model_revision, probe_seconds=probe_seconds)
        if prepare:
            from worker.model.weights import prepare as write_copy  # noqa: PLC0415 (imports torch)

            write_copy(source.directory)
    except HubUnreachable as error:
        _fail(str(error), status=EXIT_HUB_UNREACHABLE)
    except (ModelError, ModelUnavailable) as error:
        _fail(str(error))
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure the engine, decoding, the search for speech, or the whole service, here."""
    settings = _settings(model=model, device=device, dtype=dtype)
    _configure_logs("warning" if settings.log_level == "info" else settings.log_level)
    from storage.errors import JobError  # noqa: PLC0415
    from storage.redis.embedded import NoServer  # noqa: PLC0415
    from worker.bench.command import measure  # noqa: PLC0415
    from worker.bench.service import ServiceFailed  # noqa: PLC0415
    from worker.bench.show import sheets  # noqa: PLC0415

    _require_spool(settings)
    try:
        report = measure(part, settings, lambda: _engine(settings), lengths=clips, seconds=seconds)
    except InvalidSettings as error:
        _fail(*error.problems, status=EXIT_SETTINGS)
    except (JobError, NoServer, ServiceFailed) as error:
        _fail(*str(error).splitlines())
    for warning in report.warnings:
        tell(f"do not trust these figures: {warning}")
    if as_json:
        say(json_line(asdict(report)))
    else:
        console = Console(width=None if sys.stdout.isatty() else _PAGE_WIDTH)
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


def _require_spool(settings: WorkerSettings) -> None:
    """Long audio must have somewhere to wait, and not find out when it comes."""
    if not os.access(settings.spool_dir, os.W_OK | os.X_OK, effective_ids=True) or os.path.isfile(
        settings.spool_dir
    ):
        _fail(
            f"EMO_SPOOL_DIR={settings.spool_dir}: must be a directory that this user can write to",
            status=EXIT_SETTINGS,
        )


def _settings(*, required: tuple[str, ...] = (), **given: str | None) -> WorkerSettings:
    """The settings, options before variables; ends the program with all that is wrong."""
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return load(WorkerSettings, required=required, options=options)
    except InvalidSettings as error:
        _fail(*error.problems, status=EXIT_SETTINGS)


def _configure_logs(level: str) -> None:
    logs.configure(level)
    for name in unknown_variables(WorkerSettings, os.environ):
        log.warning("settings.unknown", variable=name)


def _engine(settings: WorkerSettings) -> "Engine":
    from worker.engine.loading import load_engine  # noqa: PLC0415 (imports torch)
    from worker.model.config import ModelError  # noqa: PLC0415
    from worker.model.manifest import ModelUnavailable  # noqa: PLC0415
    from worker.model.probe import HubUnreachable  # noqa: PLC0415

    try:
        return load_engine(settings)
    except HubUnreachable as error:
        _fail(str(error), "To try things without the model: EMO_MODEL=random:tiny")
    except (ModelError, ModelUnavailable) as error:
        _fail(str(error))
    except ValueError as error:  # a device that is not there, a tape that is too short
        _fail(str(error), status=EXIT_SETTINGS)


def _classified(results: Iterator["FileResult"]) -> Iterator["FileResult"]:
    """The results; ends the program where the model cannot be run at all."""
    from storage.errors import JobError  # noqa: PLC0415

    try:
        yield from results
    except JobError as error:
        _fail(str(error))


def _fields(result: "FileResult") -> dict[str, object]:
    if result.classified is None:
        assert result.error is not None
        return {
            "file": result.file,
            "error_code": result.error.code,
            "error": str(result.error),
        }
    prediction = result.classified.prediction
    return {
        "file": result.file,
        "label": prediction.label,
        "score": round(prediction.score, 6),
        "scores": {label: round(score, 6) for label, score in prediction.scores.items()},
        "duration_s": round(result.classified.duration_seconds, 3),
    }


def _line(fields: dict[str, object]) -> str:
    if "error_code" in fields:
        return f"{fields['file']}: {fields['error_code']}: {fields['error']}"
    return f"{fields['file']}: {fields['label']} {fields['score']:.3f} ({fields['duration_s']} s)"


@contextmanager
def _progress(total: int, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr while files are classified; none where it is not a terminal."""
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
    ) as progress:
        task = progress.add_task("classifying", total=total)
        yield lambda: progress.advance(task)


def _fail(*lines: str, status: int = EXIT_FAILED) -> NoReturn:
    tell(*lines)
    raise typer.Exit(status)
