"""What the commands begin and end with: settings, a connection, patience, exit statuses."""

import re
import sys
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from producer.client import Client, Contract
from storage.objects.store import ManagedStore
from storage.queue.rights import is_refused
from storage.queue.submission import BacklogFull
from storage.redis.connection import RedisError, UnfitServer
from storage.settings import InvalidSettings, SharedSettings, load, unknown_settings
from storage.terminal.text import tell

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_SOME_FAILED = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130
_BACKLOG_WAIT_SECONDS = 0.5
_PIPED_WIDTH = 160
_USERS = "docs/operations.md#redis-users"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class WhenFull(StrEnum):
    """What to do where the lanes are full."""

    WAIT = "wait"
    FAIL = "fail"


Item = TypeVar("Item")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
IfFull = Annotated[WhenFull, typer.Option(help="What to do where EMO_MAX_BACKLOG is reached.")]


def settings(*, redis: bool = True) -> SharedSettings:
    """The settings; exits with 2 where they are wrong, or name no Redis that is needed."""
    try:
        return load(SharedSettings, required=("redis_url",) if redis else ())
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)


def configure_logs(kind: type[SharedSettings], level: str) -> None:
    """Log from `level` on; names that look like settings and are none are the first event."""
    import structlog  # noqa: PLC0415 (programs log, commands do not)

    from storage.terminal import logs  # noqa: PLC0415 (as above)

    logs.configure(level)
    log = structlog.get_logger(__name__)
    for name in unknown_settings(kind):
        log.warning("settings.unknown", variable=name)


def client_of(chosen: SharedSettings) -> Client:
    """A client of a Redis that answers and will do; exits with 1 where there is none."""
    client = Client(chosen.redis_url, Contract.of(chosen), name="emostream-producer")
    try:
        client.check()
    except (RedisError, UnfitServer) as error:
        fail(f"EMO_REDIS_URL: {explained(error)}")
    return client


def explained(error: Exception) -> str:
    """What it says; where it is that a user of Redis may not do something, first who may."""
    if not is_refused(error):
        return str(error)
    return f"the user of EMO_REDIS_URL may not do that, emo-operator may ({_USERS}): {error}"


def store_of(chosen: SharedSettings, url: str | None = None) -> ManagedStore | None:
    """The store of that URL, or EMO_STORE; None where there is none."""
    url = chosen.store if url is None else url
    if not url:
        return None
    return chosen.open_store(url)


def outputs_of(chosen: SharedSettings) -> ManagedStore:
    """Where outputs go; exits with 2 where there is no store."""
    store = store_of(chosen, chosen.output_store or chosen.store)
    if store is None:
        fail("EMO_OUTPUT_STORE, EMO_STORE: set one, so that there is a store", status=EXIT_SETTINGS)
    return store


def age_seconds(text: str) -> float:
    """`90`, `90s`, `30m`, `12h`, `7d` → seconds. Raises typer.BadParameter."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not an age; write 90s, 30m, 12h or 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def enqueue(act: Callable[[], Item], when_full: WhenFull) -> Item:
    """Do what adds to the lanes; where they are full, wait, or raise BacklogFull as asked."""
    said = False
    while True:
        try:
            return act()
        except BacklogFull as error:
            if when_full is WhenFull.FAIL:
                raise
            if not said:
                tell(f"{error}: waiting")
                said = True
            # Redis tells nobody that a lane got shorter, and this process has nothing else to do.
            time.sleep(_BACKLOG_WAIT_SECONDS)


def progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """A bar on stderr while more than one item is worked on, where people can see it."""
    console = Console(stderr=True)
    hidden = total == 1 or not console.is_terminal
    return track(items, what, total=total, console=console, disable=hidden, transient=True)


def stdout() -> Console:
    """Where tables go: as wide as the terminal, or wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def unknown(job: str) -> str:
    """What to say of a job that Redis knows nothing of."""
    return f"job {job}: unknown; it was never enqueued, or its result has expired"


def fail(*lines: str, status: int = EXIT_FAILED) -> NoReturn:
    """Say why, and exit."""
    tell(*lines)
    raise typer.Exit(status)
