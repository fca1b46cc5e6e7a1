"""What every command of the worker begins and ends with: settings, the log, an engine."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer

from storage.settings import InvalidSettings, load, unknown_settings
from storage.terminal import logs
from storage.terminal.text import tell
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.app import Worker
    from worker.engine.engine import Engine

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_SOME_FAILED = 3
EXIT_HUB_UNREACHABLE = 4
EXIT_SECOND_SIGNAL = 130

PAGE_WIDTH = 120  # where it is not a terminal that says its own

# Said after what keeps a worker from starting: one line names what failed first, and seldom why.
ASK_THE_DOCTOR = "`python -m worker doctor` looks at all that a worker needs: docs/doctor.md"

log = structlog.get_logger(__name__)

Model = Annotated[
    str | None, typer.Option(help="Directory, ModelScope id, random:large or random:tiny.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]


def load_settings(*, required: tuple[str, ...] = (), **given: str | None) -> WorkerSettings:
    """The settings, options before variables; ends the program with all that is wrong."""
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return load(WorkerSettings, required=required, options=options)
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)


def configure_logs(level: str) -> None:
    """Log from `level` on; names that look like settings and are none are the first event."""
    logs.configure(level)
    for name in unknown_settings(WorkerSettings):
        log.warning("settings.unknown", variable=name)


def require_spool(settings: WorkerSettings) -> None:
    """Long audio must have somewhere to wait, and not find out when it comes."""
    if not os.access(settings.spool_dir, os.W_OK | os.X_OK, effective_ids=True) or os.path.isfile(
        settings.spool_dir
    ):
        fail(
            f"EMO_SPOOL_DIR={settings.spool_dir}: must be a directory that this user can write to",
            status=EXIT_SETTINGS,
        )


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import torch here: it takes a quarter less CPU time while nobody looks for garbage.

    Modules are none; what was made here is left out of every later collection too, and of the one
    at the program's end.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def libraries() -> Iterator[None]:
    """Import libraries here: those that cannot be loaded end the program in a line."""
    try:
        yield
    except (ImportError, OSError) as error:  # torch raises the latter for a library it needs
        fail(f"cannot start: {error}", ASK_THE_DOCTOR)


def open_engine(settings: WorkerSettings) -> "Engine":
    """An engine with its model; ends the program where there is none to be had."""
    with libraries(), heavy_imports():
        from worker.engine.loading import load_engine  # noqa: PLC0415
    from worker.model.config import ModelError  # noqa: PLC0415
    from worker.model.manifest import ModelUnavailable  # noqa: PLC0415
    from worker.model.probe import HubUnreachable  # noqa: PLC0415

    try:
        return load_engine(settings)
    except HubUnreachable as error:
        fail(str(error), "To try things without the model: EMO_MODEL=random:tiny", ASK_THE_DOCTOR)
    except (ModelError, ModelUnavailable) as error:
        fail(str(error), ASK_THE_DOCTOR)
    except ValueError as error:  # a device that is not there, a tape that is too short
        fail(str(error), ASK_THE_DOCTOR, status=EXIT_SETTINGS)


def drain_on_signals(worker: "Worker") -> None:
    """SIGTERM and SIGINT drain the worker; a second one ends the process at once, non-zero."""

    def handle(number: int, frame: FrameType | None) -> None:
        if worker.stopping is not None:
            os._exit(EXIT_SECOND_SIGNAL)
        worker.stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def fail(*lines: str, status: int = EXIT_FAILED) -> NoReturn:
    """Say why on stderr, and end the program."""
    tell(*lines)
    raise typer.Exit(status)
