"""`console`: the web console."""

import os
from typing import Annotated, Any

import typer

from producer.program import EXIT_SETTINGS, client_of, configure_logs, fail
from storage.settings import InvalidSettings, load

_EXTRA = "pip install -e '.[console]'"


def console(
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Let the page upload, cancel, pause and replay.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="host:port to listen at; EMO_CONSOLE_ADDRESS.")
    ] = None,
) -> None:
    """Serve the web console: recordings, results, and what the workers are doing."""
    try:
        from producer.console.serve import serve  # noqa: PLC0415 (an extra)
        from producer.console.settings import ConsoleSettings  # noqa: PLC0415 (as it says)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        fail(f"the console needs the extra `console`, and {error.name} is missing: {_EXTRA}")
    options: dict[str, Any] = {"console_write": True} if write else {}
    options |= {} if address is None else {"console_address": address}
    try:
        chosen = load(ConsoleSettings, required=("redis_url", "store"), options=options)
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)
    configure_logs(ConsoleSettings, "info")
    with client_of(chosen) as client:
        try:
            serve(chosen, client)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else error
            fail(f"EMO_CONSOLE_ADDRESS={chosen.console_address}: {why}; choose another")
