"""`cancel`: end jobs that nobody wants any more."""

import typer

from producer import show
from producer.program import (
    EXIT_SOME_FAILED,
    AsJson,
    client_of,
    explained,
    fail,
    settings,
    unknown,
)
from storage.queue.cancellation import Cancelled, Verdict
from storage.redis.connection import RedisError
from storage.terminal.text import say, tell
from storage.wire.messages import Status


def cancel(jobs: list[str], *, as_json: AsJson = False) -> None:
    """End jobs as cancelled; prints their ids. Exits with 3 where some were not cancelled."""
    client = client_of(settings())
    exit_status = 0
    try:
        for job in jobs:
            outcome = client.cancel(job)
            if outcome.verdict is Verdict.CANCELLED:
                fields = {"status": Status.CANCELLED.value, "was": (outcome.was or "")}
                say(show.as_json(job, fields) if as_json else job)
            else:
                tell(_refusal(outcome))
                if outcome.was != Status.CANCELLED:
                    exit_status = EXIT_SOME_FAILED
    except RedisError as error:
        fail(explained(error))
    raise typer.Exit(exit_status)


def _refusal(outcome: Cancelled) -> str:
    if outcome.was is None:
        return (
            f"{unknown(outcome.job_id)}. One sent by XADD with an id of its own is known when a "
            "worker begins it: cancel it then"
        )
    return f"job {outcome.job_id}: is {outcome.was} already; nothing was changed"
