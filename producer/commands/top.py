"""`top`: everything at a glance, again and again."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from producer.program import EXIT_INTERRUPTED, AsJson, client_of, explained, fail, settings, stdout
from producer.top.acts import Acts
from producer.top.desk import Desk, Row
from producer.top.keyboard import Keyboard
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
    write: Annotated[
        bool, typer.Option("--write", help="Let keys pause, replay and cancel.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show lanes, workers, rates and failures as they are now, until q or Ctrl-C."""
    client = client_of(settings())
    looking = Looking(client)
    console = stdout()
    try:
        if once:
            _print(looking.look(), console, as_json=as_json)
        elif console.is_terminal and not console.is_dumb_terminal and not as_json:
            _watch(looking, console, every, Acts(client) if write else None)
        else:
            _follow(looking, console, every, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except RedisError as error:
        fail(explained(error))


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


def _watch(looking: Looking, console: Console, every: float, acts: Acts | None) -> None:
    """The whole terminal, as large as it is at each look; with keys, where somebody can type."""
    if sys.stdin is None or not sys.stdin.isatty():  # None where it is closed
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for found in _looks(looking, every):
                live.update(_shown(found, console), refresh=True)
    with Keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        seat = _Seat(keyboard, live, console, Desk(acts))
        for found in _looks(looking, every, seat.heed):
            seat.show(found)


class _Seat:
    """Somebody before the terminal: sees the newest look, and presses keys."""

    def __init__(self, keyboard: Keyboard, live: Live, console: Console, desk: Desk) -> None:
        self._keyboard, self._live, self._console = keyboard, live, console
        self._desk = desk
        self._found: Snapshot | RedisError
        self._typed: list[str] = []  # and not obeyed yet

    def show(self, found: Snapshot | RedisError) -> None:
        """A look, from now on."""
        self._found = found
        self._desk.see(found if isinstance(found, Snapshot) else None)
        self._redraw()

    def heed(self, seconds: float) -> None:
        """Obey keys for so long, or until one has changed something that is to be looked at."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self._typed = self._typed or [*self._keyboard.wait(left)]
            while self._typed:
                changed = self._desk.press(self._typed.pop(0))
                if self._desk.ended:
                    raise typer.Exit
                self._redraw()
                if changed:
                    return

    def _redraw(self) -> None:
        desk = self._desk
        shown = _shown(self._found, self._console, desk.chosen, desk.foot())
        self._live.update(shown, refresh=True)


def _shown(
    found: Snapshot | RedisError,
    console: Console,
    chosen: Row | None = None,
    foot: Sequence[Text] = (),
) -> RenderableType:
    if isinstance(found, Snapshot):
        width, height = console.size
        return screen(found, width=width, height=height, chosen=chosen, foot=foot)
    return away(found, foot)


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
