"""`batch`: jobs that are counted together."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from producer import show
from producer.client import Batch, BatchGone, BatchState, Client, InvalidJob, WrongTotal
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
from storage.queue.batches import check_batch, gone
from storage.queue.bulks import BulkStatus
from storage.queue.rights import is_refused
from storage.redis.connection import RedisError
from storage.terminal.text import json_line, say, tell
from storage.wire.messages import Status

batch = typer.Typer(no_args_is_help=True, help="Batches: jobs that are counted together.")
Id = Annotated[str, typer.Argument(metavar="BATCH")]
_LOOK_SECONDS = 2.0  # between two looks at what holds it up


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
    """Wait until it is complete, and show it. Exits with 3 where some did not end as done.

    One that nobody knows yet is waited for. What keeps it from coming to an end is told; where
    that is for good, as of a bulk that failed, it exits with 1.
    """
    client = _client_for(name)
    state: BatchState | None = None
    try:
        for state in states(client, name, timeout):
            if as_json:
                _say(state, as_json=True)
    except BatchGone as error:
        fail(str(error))
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


def states(client: Client, name: str, timeout_seconds: float | None) -> Iterator[BatchState]:
    """Its state as it changes, until it is complete; what holds it up is told meanwhile.

    Raises TimeoutError, BatchGone, RedisError; exits with 1 where it can never be complete.
    """
    batch, hindrance = client.batch(name), ""
    seen: BatchState | None = None
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        now = batch.state()
        if now is None and seen is not None:
            raise gone(name)
        if now is None or not now.complete:
            found = _hindrance(client, name, now)
            if found not in ("", hindrance):
                tell(found)
            hindrance = found
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            slice_seconds = _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS)
            for state in batch.wait(timeout_seconds=slice_seconds):
                if state != seen:
                    yield state
                seen = state
        except TimeoutError:
            if left is not None and left <= _LOOK_SECONDS:
                raise
        else:
            return


def _hindrance(client: Client, name: str, state: BatchState | None) -> str:
    """Why a batch is not complete, where its bulk says so or nothing is known of it.

    Raises BatchGone, RedisError; exits with 1 where its bulk has failed.
    """
    try:
        bulk = client.operator.bulks.get(name)
    except RedisError as error:
        if not is_refused(error):  # who sends jobs alone may not look
            raise
        bulk = None
    if bulk is None:
        none = f"batch {name}: no job of it has come yet, or it has expired"
        return "" if state is not None else none
    if bulk.status is BulkStatus.FAILED:
        fail(f"bulk {name}: failed, and may be resumed: {bulk.error}")
    if bulk.status is BulkStatus.PAUSED:
        return f"bulk {name}: is paused: nothing more of it is sent until it is resumed"
    if bulk.status.ended and state is None:
        raise gone(name)
    if bulk.error:
        return f"bulk {name}: {bulk.error}"
    return (
        "" if state is not None else f"bulk {name}: no job of it has come yet: control sends them"
    )


def _client_for(name: str) -> Client:
    """A client, where the batch may be called so."""
    try:
        check_batch(name)
    except InvalidJob as error:
        fail(str(error), status=EXIT_SETTINGS)
    return client_of(settings())


def _batch(name: str) -> Batch:
    return _client_for(name).batch(name)


def _say(state: BatchState, *, as_json: bool) -> None:
    fields = show.batch_fields(state)
    if as_json:
        return say(json_line(fields))
    say(*show.aligned({name: str(value) for name, value in fields.items()}))
