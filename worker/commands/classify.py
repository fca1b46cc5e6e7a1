"""`classify`: files, without Redis."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import from_json, to_json
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

from storage.errors import InvalidJob, JobError
from storage.objects.local_files import named_files
from storage.terminal.options import (
    ChannelOption,
    HopOption,
    LabelsOption,
    SegmentsOption,
    parts_of,
)
from storage.terminal.tables import parts_table
from storage.terminal.text import json_line, say, tell
from storage.wire.channels import MIX
from storage.wire.messages import Want
from worker.audio.confinement import hide_memory
from worker.commands.program import (
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    PAGE_WIDTH,
    Device,
    Dtype,
    Model,
    configure_logs,
    fail,
    heavy_imports,
    libraries,
    load_settings,
    open_engine,
    require_spool,
)

if TYPE_CHECKING:
    from worker.commands.files import Asked, FileResult


def classify(
    files: Annotated[list[str], typer.Argument(help="Audio files, or directories of them.")],
    *,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Scores along the file.")] = False,
    channel: ChannelOption = MIX,
    segments: SegmentsOption = "",
    hop: HopOption = None,
    labels: LabelsOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Classify files, without Redis. Exits with 3 where some failed."""
    hide_memory()
    settings = load_settings(model=model, device=device, dtype=dtype)
    configure_logs("warning" if settings.log_level == "info" else settings.log_level)
    require_spool(settings)
    files = list(named_files(files))
    if not files:
        fail("there is no audio in the directories that were named", status=EXIT_SETTINGS)

    want = frozenset({Want.SCORES, *[Want.TIMELINE] * (timeline or hop is not None)})
    try:
        parts = parts_of(channel, segments, hop, labels)
    except InvalidJob as error:
        fail(str(error), status=EXIT_SETTINGS)
    with libraries(), heavy_imports():
        from worker.commands.files import Asked  # noqa: PLC0415
        from worker.commands.files import classify as classify_files  # noqa: PLC0415
    asked = Asked(want, parts)
    failed = 0
    with _progress(len(files), hidden=as_json) as advance:
        engine = open_engine(settings)
        if not as_json and engine.model.untrained:
            tell("UNTRAINED MODEL: the labels below mean nothing.")
        for result in _classified(classify_files(settings, engine, files, asked)):
            failed += result.error is not None
            advance()
            fields = _fields(result, asked, untrained=engine.model.untrained)
            if as_json:
                say(json_line(fields))
            else:
                _show(fields)
    raise typer.Exit(EXIT_SOME_FAILED if failed else 0)


def _classified(results: Iterator["FileResult"]) -> Iterator["FileResult"]:
    """The results; ends the program where the model cannot be run at all."""
    try:
        yield from results
    except JobError as error:
        fail(str(error))


def _fields(result: "FileResult", asked: "Asked", *, untrained: bool) -> dict[str, Any]:
    from worker.delivery.results import tell as told  # noqa: PLC0415 (imports torch)

    if result.classified is None:
        assert result.error is not None
        return {
            "file": result.file,
            "error_code": result.error.code,
            "error": str(result.error),
        }
    timeline = Want.TIMELINE in asked.want
    fields = told(result.classified, timeline=timeline, untrained=untrained)
    return {"file": result.file, **from_json(to_json(fields))}


def _show(fields: dict[str, Any]) -> None:
    """A line, and a table of what was found within the file."""
    if "error_code" in fields:
        return say(f"{fields['file']}: {fields['error_code']}: {fields['error']}")
    about = f"{fields['duration_s']} s" + "".join(
        f", {name}" for name in filter(None, fields.get("warning", "").split(","))
    )
    say(f"{fields['file']}: {fields['label']} {fields['score']:.3f} ({about})")
    if (parts := parts_table(fields)) is not None:
        Console(width=None if sys.stdout.isatty() else PAGE_WIDTH).print(parts, "")
    return None


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
