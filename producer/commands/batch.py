"""`batch`: jobs that are counted together."""

from typing import Annotated

import typer

from producer import show
from producer.client import Batch, BatchState, InvalidJob, WrongTotal
from producer.commands.follow import Timeout
from producer.program import (
    EXIT_INTERRUPTED,
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    EXIT_TIMEOUT,
    AsJson,
    client_of,
    explained,
    fail,
    settings,
)
from storage.redis.connection import RedisError
from storage.terminal.text import json_line, say, tell
from storage.wire.messages import Status

batch = typer.Typer(no_args_is_help=True, help="Batches: jobs that are counted together.")
Id = Annotated[str, typer.Argument(metavar="BATCH")]


@batch.command("show")
def show_batch(name: Id, *, as_json: AsJson = False) -> None:
    """Show what it has counted."""
    try:
        state = _batch(name).state()
    except RedisError as error:
        fail(explained(error))
    if state is None:
        fail(f"batch {name}: unknown; no job of it has come yet, or it has expired")
    _say(state, as_json=as_json)


@batch.command()
def wait(name: Id, *, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until it is complete, and show it. Exits with 3 where some did not end as done."""
    state: BatchState | None = None
    try:
        for state in _batch(name).wait(timeout_seconds=timeout):
            if as_json:
                _say(state, as_json=True)
    except TimeoutError as error:
        fail(str(error), status=EXIT_TIMEOUT)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RedisError as error:
        fail(explained(error))
    if state is not None and not as_json:
        _say(state, as_json=False)
    undone = state is not None and state.ends[Status.DONE] < state.jobs
    raise typer.Exit(EXIT_SOME_FAILED if undone else 0)


@batch.command()
def seal(
    name: Id,
    total: Annotated[int, typer.Argument(min=0, help="Jobs, and repeats, that were sent to it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say how many jobs were sent to it: it is complete when so many have ended."""
    try:
        _say(_batch(name).seal(total), as_json=as_json)
    except (RedisError, WrongTotal) as error:
        fail(explained(error))


@batch.command()
def cancel(name: Id) -> None:
    """Have its jobs cancelled, those that come later too: each as soon as a worker meets it."""
    try:
        still_open = _batch(name).cancel()
    except RedisError as error:
        fail(explained(error))
    if still_open is None:
        fail(f"batch {name}: is complete; nothing was changed")
    tell(f"batch {name}: {still_open} job(s) that are known have not ended, and will be cancelled")


@batch.command()
def failures(
    name: Id,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Jobs shown at most.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List its jobs that failed, the newest first: the last thousand are known."""
    try:
        found = _batch(name).failures(limit)
    except RedisError as error:
        fail(explained(error))
    for one in found:
        if as_json:
            told = {"job": one.job_id, "status": one.status, "error_code": one.error_code}
            say(json_line(told))
        else:
            say(f"{one.job_id}  {one.status}  {one.error_code}")


def _batch(name: str) -> Batch:
    try:
        return client_of(settings()).batch(name)
    except InvalidJob as error:
        fail(str(error), status=EXIT_SETTINGS)


def _say(state: BatchState, *, as_json: bool) -> None:
    fields = show.batch_fields(state)
    if as_json:
        return say(json_line(fields))
    say(*show.aligned({name: str(value) for name, value in fields.items()}))
