"""`webhooks`: those that were given up on, to be looked at, sent again, or forgotten."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
from rich.table import Table

from producer import show
from producer.program import (
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    AsJson,
    client_of,
    explained,
    fail,
    settings,
    stdout,
)
from storage.errors import InvalidJob
from storage.queue.webhooks import DeadWebhook, WebhookLetters
from storage.redis.connection import RedisError
from storage.terminal.text import cell, json_line, say, tell
from storage.wire.callback import parse_callback

_AT_ONCE = 200

webhooks = typer.Typer(no_args_is_help=True, help="Webhooks that were given up on.")
Names = Annotated[list[str] | None, typer.Argument(help="Job ids, or entries of the list.")]
Host = Annotated[str | None, typer.Option(help="Those for that host, as `list` shows it.")]
Every = Annotated[bool, typer.Option("--all", help="Every one of them.")]


@webhooks.command("list")
def list_webhooks(
    names: Names = None,
    *,
    host: Host = None,
    limit: Annotated[int, typer.Option(min=0, help="Shown at most; 0 for all.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List them, the newest first: why each was given up, and for whom it is."""
    letters = _letters()
    table = Table(box=None, pad_edge=False)
    for column in ("entry", "job", "run", "status", "host", "attempts", "age", "reason"):
        table.add_column(column, overflow="fold")
    try:
        now_ms = letters.now_ms()
        selected = _selected(letters, names, host)
        for one in islice(selected, limit or None):
            if as_json:
                say(json_line(_as_json(one, now_ms)))
            else:
                table.add_row(*map(cell, _row(one, now_ms)))
        if next(selected, None):
            tell(f"there are more than {limit}: use --limit 0")
        waiting = letters.waiting()
    except RedisError as error:
        fail(explained(error))
    if table.row_count:
        stdout().print(table)
    tell(f"{waiting} are not delivered yet, and not given up on")


@webhooks.command()
def replay(names: Names = None, *, host: Host = None, every: Every = False) -> None:
    """Send them again, each from its first attempt on. Exits with 3 where some were not found."""
    _act("replayed", names, host, every=every)


@webhooks.command()
def purge(names: Names = None, *, host: Host = None, every: Every = False) -> None:
    """Forget them for good. Exits with 3 where some were not found."""
    _act("purged", names, host, every=every)


def _act(what: str, names: list[str] | None, host: str | None, *, every: bool) -> None:
    if every == bool(names or host):
        fail("name jobs, or use --host, or --all alone", status=EXIT_SETTINGS)
    letters = _letters()
    done, seen = 0, set[str]()
    try:
        selected = _selected(letters, names, host)
        while chunk := list(islice(selected, _AT_ONCE)):
            entries = [one.entry for one in chunk]
            seen |= {name for one in chunk for name in (one.entry, one.fields.get("job", ""))}
            done += letters.purge(entries) if what == "purged" else sum(letters.replay(entries))
    except RedisError as error:
        fail(f"{explained(error)} ({done} {what} before)")
    tell(f"{done} {what}")
    missing = sorted(set(names or ()) - seen)
    for name in missing:
        tell(f"{name}: no webhook of that job or entry was given up on")
    raise typer.Exit(EXIT_SOME_FAILED if missing else 0)


def _letters() -> WebhookLetters:
    return client_of(settings()).operator.webhook_letters


def _selected(
    letters: WebhookLetters, names: list[str] | None, host: str | None
) -> Iterator[DeadWebhook]:
    wanted = set(names or ())
    for one in letters.listed():
        named = not wanted or wanted & {one.entry, one.fields.get("job", "")}
        if named and host in (None, _host(one)):
            yield one


def _host(one: DeadWebhook) -> str:
    try:
        return parse_callback(one.fields.get("callback", "")).authority
    except InvalidJob:
        return ""


def _row(one: DeadWebhook, now_ms: int) -> list[str]:
    """The host alone of its URL, which may hold a secret."""
    told = [one.fields.get(name, "") for name in ("job", "run", "status")]
    age = show.age(max(0, now_ms - one.died_at_ms) / 1000)
    return [one.entry, *told, _host(one), one.attempts, age, one.reason]


def _as_json(one: DeadWebhook, now_ms: int) -> dict[str, object]:
    """All of it; the URL too. Numbers are numbers, as those of dead letters."""
    told: dict[str, object] = {**one.fields}
    told |= {"entry": one.entry, "reason": one.reason, "attempts": show.as_number(one.attempts)}
    told |= {"died_at_ms": one.died_at_ms, "age_s": (now_ms - one.died_at_ms) / 1000}
    if "run" in told:
        told["run"] = show.as_number(one.fields["run"])
    return told
