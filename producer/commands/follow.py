"""`status` and `wait`: what becomes of jobs."""

from collections.abc import Mapping
from typing import Annotated, NoReturn

import typer

from producer import show
from producer.client import Client
from producer.program import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_SOME_FAILED,
    EXIT_TIMEOUT,
    AsJson,
    client_of,
    explained,
    fail,
    progress,
    settings,
    stdout,
    unknown,
)
from storage.redis.connection import RedisError
from storage.terminal.text import say, tell

Timeout = Annotated[float | None, typer.Option(help="Seconds to wait at most; exit status 4.")]


def status(job: str, *, as_json: AsJson = False) -> None:
    """Show a job's state and result, as its hash in Redis holds it."""
    try:
        result = client_of(settings()).status(job)
    except RedisError as error:
        fail(explained(error))
    if result is None:
        fail(unknown(job))
    found = result.fields
    if as_json:
        return say(show.as_json(job, found))
    fields, parts = show.shown_apart(job, found)
    say(*show.aligned(fields))
    if parts is not None:
        stdout().print("", parts)


def wait(jobs: list[str], *, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until the jobs have ended, and show their results. Exits with 3 where some failed."""
    client = client_of(settings())
    try:
        strange = [job for job in jobs if client.status(job) is None]
    except RedisError as error:
        fail(explained(error))
    if strange:
        fail(unknown(strange[0]))
    follow(client, {job: job for job in jobs}, timeout, as_json=as_json)


def follow(
    client: Client, named: dict[str, str], timeout: float | None, *, as_json: bool
) -> NoReturn:
    """Show results as jobs end, and exit; what has not ended is named, to be looked up later."""
    rows: dict[str, Mapping[str, str]] = {}
    exit_status = 0
    try:
        ends = client.wait(list(named), timeout_seconds=timeout)
        for result in progress(ends, "waiting", len(named)):
            job_id = result.job_id
            rows[job_id] = result.fields
            if as_json:
                say(show.as_json(job_id, {**result.fields, "name": named[job_id]}))
            if not result.done:
                exit_status = EXIT_SOME_FAILED
    except TimeoutError:
        exit_status = EXIT_TIMEOUT
    except KeyboardInterrupt:
        exit_status = EXIT_INTERRUPTED
    except RedisError as error:
        tell(explained(error))
        exit_status = EXIT_FAILED
    if not as_json and rows:
        ended = [(named[job_id], rows[job_id]) for job_id in named if job_id in rows]
        console = stdout()
        console.print(show.results_table(ended))
        for part in show.parts([(named[job], job, rows[job]) for job in named if job in rows]):
            console.print(part)
        tell(*show.errors(ended))
    still_open = [job_id for job_id in named if job_id not in rows]
    if still_open:
        tell("not ended yet:", *still_open)
    raise typer.Exit(exit_status)
