"""`lanes`: how full they are, once or again and again; to pause them, and to resume them."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.live import Live

from producer import show_lanes
from producer.program import EXIT_INTERRUPTED, AsJson, client_of, explained, fail, settings, stdout
from storage.queue.lanes import Lanes, Overview
from storage.queue.pauses import Pauses
from storage.redis.connection import RedisError
from storage.terminal.text import say, tell
from storage.wire.messages import Lane

_EVERY_SECONDS = 2.0

lanes = typer.Typer(help="How full the lanes are; pause and resume them.")


@lanes.callback(invoke_without_command=True)
def show_all(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again every 2 s, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is queued, in flight, delayed and dead in each lane, and who works on it."""
    if context.invoked_subcommand is not None:
        return
    looks = _looks(client_of(settings()).operator.lanes, again=watch)
    console = stdout()
    try:
        if watch and console.is_terminal and not as_json:
            with Live(console=console, auto_refresh=False) as live:
                for overview in looks:
                    live.update(show_lanes.overview(overview), refresh=True)
        for overview in looks:
            if as_json:
                say(show_lanes.overview_as_json(overview))
            else:
                console.print(show_lanes.overview(overview))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RedisError as error:
        fail(explained(error))


@lanes.command()
def pause(lane: Lane) -> None:
    """Begin nothing more of a lane, until it is resumed; what runs ends."""
    try:
        changed = _pauses().pause(lane)
    except RedisError as error:
        fail(explained(error))
    tell(f"lane {lane.value}: {'paused' if changed else 'was paused already'}")


@lanes.command()
def resume(lane: Lane) -> None:
    """Go on with a lane that was paused."""
    try:
        changed = _pauses().resume(lane)
    except RedisError as error:
        fail(explained(error))
    tell(f"lane {lane.value}: {'resumed' if changed else 'was not paused'}")


def _pauses() -> Pauses:
    return client_of(settings()).operator.pauses


def _looks(state: Lanes, *, again: bool) -> Iterator[Overview]:
    yield state.look()
    while again:
        time.sleep(_EVERY_SECONDS)  # for people to look at: nothing is waited for
        yield state.look()
