"""`model`: the weights, fetched before a worker starts."""

from dataclasses import asdict
from typing import Annotated

import typer

from storage.terminal.text import json_line, say, tell
from worker.commands.program import (
    EXIT_HUB_UNREACHABLE,
    configure_logs,
    fail,
    heavy_imports,
    libraries,
    load_settings,
)


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
