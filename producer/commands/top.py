"""`top`: lanes, workers, rates and recent failures, again and again."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from producer.program import EXIT_INTERRUPTED, AsJson, client_of, fail, settings, stdout
from producer.top import view
from producer.top.snapshot import Looks, Snapshot
from storage.redis.connection import RedisError
from storage.terminal.text import json_line, say
from storage.wire.messages import Keys


def top(
    once: Annotated[bool, typer.Option("--once", help="One look, and end.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show how the queue and all workers are, until Ctrl-C; where it is no terminal, line by line.

    Workers speak every quarter of EMO_LEASE_SECONDS: their figures change no more often.
    """
    chosen = settings()
    looks = _looks(Looks(client_of(chosen).connection, Keys(chosen.prefix)), every, once=once)
    console = stdout()
    try:
        if console.is_terminal and not (once or as_json):
            _watch(console, looks)
        for found in looks:
            if isinstance(found, RedisError):
                fail(str(found))
            if as_json:
                say(json_line(found.told()))
            else:
                console.print(view.page(found, width=console.width))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _watch(console: Console, looks: Iterator[Snapshot | RedisError]) -> None:
    """An outage is waited out, and nothing of before is shown meanwhile."""
    with Live(console=console, auto_refresh=False, screen=True) as live:
        for found in looks:
            if isinstance(found, RedisError):
                shown = view.away(found)
            else:
                shown = view.page(found, width=console.width, height=console.height)
            live.update(shown, refresh=True)


def _looks(state: Looks, every: float, *, once: bool) -> Iterator[Snapshot | RedisError]:
    while True:
        try:
            yield state.look()
        except RedisError as error:
            yield error
        if once:
            return
        time.sleep(every)  # for people to look at: nothing is waited for
