"""`top`: everything at a glance, again and again."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from producer.program import EXIT_INTERRUPTED, AsJson, client_of, fail, settings, stdout
from producer.top.look import Looking, Snapshot
from producer.top.screen import away, screen
from producer.top.tell import as_json as told_as_json
from storage.redis.connection import RedisError, is_outage
from storage.terminal.text import say, tell


def top(
    *,
    every: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show lanes, workers, rates and failures as they are now, until Ctrl-C."""
    looking = Looking(client_of(settings()))
    console = stdout()
    try:
        if once:
            _print(looking.look(), console, as_json=as_json)
        elif console.is_terminal and not console.is_dumb_terminal and not as_json:
            _watch(looking, console, every)
        else:
            _follow(looking, console, every, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RedisError as error:
        fail(str(error))


def _print(snapshot: Snapshot, console: Console, *, as_json: bool) -> None:
    if as_json:
        say(told_as_json(snapshot))
    else:
        console.print(screen(snapshot, width=console.width), soft_wrap=False)


def _follow(looking: Looking, console: Console, every: float, *, as_json: bool) -> None:
    """A snapshot after the other; an outage is said once."""
    away = False
    for found in _looks(looking, every):
        if isinstance(found, Snapshot):
            _print(found, console, as_json=as_json)
        elif not away:
            tell(f"EMO_REDIS_URL: {found}; it is asked again every {every:g} s")
        away = not isinstance(found, Snapshot)


def _watch(looking: Looking, console: Console, every: float) -> None:
    """The whole terminal, as large as it is at each look."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for found in _looks(looking, every):
            live.update(_shown(found, console), refresh=True)


def _shown(found: Snapshot | RedisError, console: Console) -> RenderableType:
    if isinstance(found, Snapshot):
        return screen(found, width=console.width, height=console.height)
    return away(found)


def _looks(
    looking: Looking, every: float, sleep: Callable[[float], None] | None = None
) -> Iterator[Snapshot | RedisError]:
    """A look after the other; where Redis is away, why: figures of before would be believed."""
    while True:
        try:
            yield looking.look()
        except RedisError as error:
            if not is_outage(error):
                raise
            yield error
        (sleep or time.sleep)(every)  # for people to look at: nothing is waited for
