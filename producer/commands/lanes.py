"""`lanes`: how full they are, once or again and again."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.live import Live

from producer import show
from producer.program import EXIT_INTERRUPTED, AsJson, client_of, fail, settings, stdout
from storage.queue.lanes import Lanes, Overview
from storage.redis.connection import RedisError
from storage.terminal.text import say
from storage.wire.messages import Keys

_EVERY_SECONDS = 2.0


def lanes(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Again every 2 s, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is queued, in flight, delayed and dead in each lane, and who works on it."""
    chosen = settings()
    looks = _looks(Lanes(client_of(chosen).connection, keys=Keys(chosen.prefix)), again=watch)
    console = stdout()
    try:
        if watch and console.is_terminal and not as_json:
            with Live(console=console, auto_refresh=False) as live:
                for overview in looks:
                    live.update(show.overview(overview), refresh=True)
        for overview in looks:
            if as_json:
                say(show.overview_as_json(overview))
            else:
                console.print(show.overview(overview))
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RedisError as error:
        fail(str(error))


def _looks(state: Lanes, *, again: bool) -> Iterator[Overview]:
    yield state.look()
    while again:
        time.sleep(_EVERY_SECONDS)  # for people to look at: nothing is waited for
        yield state.look()
