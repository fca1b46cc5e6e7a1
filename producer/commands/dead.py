"""`dead`: look at dead letters, replay their jobs, purge them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, TypeVar

import typer

from producer import show
from producer.program import (
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    AsJson,
    IfFull,
    WhenFull,
    age_seconds,
    client_of,
    enqueue,
    explained,
    fail,
    settings,
    stdout,
)
from storage.queue.dead import DeadLetters, Found, Letter, Replayed, Selection, Verdict
from storage.queue.submission import BacklogFull
from storage.redis.connection import RedisError
from storage.terminal.text import json_line, say, tell
from storage.wire.messages import Status

_PURGED_AT_ONCE = 500
_REPLAYED_AT_ONCE = 200
Item = TypeVar("Item")

dead = typer.Typer(no_args_is_help=True, help="Dead letters: jobs that were given up on.")


Names = Annotated[list[str] | None, typer.Argument(help="Job ids, or entries of letters.")]
Reason = Annotated[str | None, typer.Option(help="The error code they died of.")]
OlderThan = Annotated[
    float | None,
    typer.Option(parser=age_seconds, metavar="AGE", help="Died longer ago: 90s, 30m, 12h, 7d."),
]
NewerThan = Annotated[
    float | None, typer.Option(parser=age_seconds, metavar="AGE", help="Died since then.")
]
Every = Annotated[bool, typer.Option("--all", help="Every letter.")]


@dead.command("list")
def list_letters(
    names: Names = None,
    *,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int, typer.Option(min=0, help="Letters shown at most; 0 for all.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List letters, the newest first: all of them, or those that match everything given."""
    letters = _letters()
    found: list[Letter] = []
    try:
        now_ms = letters.now_ms()
        selected = letters.select(_selection(names, reason, older_than, newer_than))
        for letter in islice(selected, limit or None):
            if as_json:
                say(show.letter_as_json(letter, now_ms))
            else:
                found.append(letter)
        if next(selected, None):
            tell(f"there are more than {limit}: choose with --reason or an age, or use --limit 0")
    except RedisError as error:
        fail(explained(error))
    if found:
        stdout().print(show.letters_table(found, now_ms))


@dead.command("show")
def show_letter(
    name: Annotated[str, typer.Argument(metavar="ENTRY_OR_JOB")], *, as_json: AsJson = False
) -> None:
    """Show a letter in full, by its entry or its job (the newest), and the job's state."""
    chosen = settings()
    client = client_of(chosen)
    try:
        letters = client.operator.dead_letters
        letter = letters.find(name)
        if letter is None:
            fail(_no_letter(name))
        found = client.status(letter.job_id)
        job = None if found is None else found.fields
        now_ms = letters.now_ms()
    except RedisError as error:
        fail(explained(error))
    if as_json:
        say(show.letter_as_json(letter, now_ms, job))
    else:
        say(*show.aligned(show.letter_and_job(letter, now_ms, job)), "")
        say(*show.aligned(letter.fields))


@dead.command()
def summary(
    *, older_than: OlderThan = None, newer_than: NewerThan = None, as_json: AsJson = False
) -> None:
    """What jobs died of: how many of each reason, the most frequent first, and the newest one."""
    try:
        causes = _letters().summary(_selection(None, None, older_than, newer_than))
    except RedisError as error:
        fail(explained(error))
    for cause in causes if as_json else ():
        told = {"reason": cause.reason, "letters": cause.letters}
        say(json_line({**told, "entry": cause.example.entry, "job": cause.example.job_id}))
    if causes and not as_json:
        stdout().print(show.causes_table(causes))


@dead.command()
def replay(
    names: Names = None,
    *,
    every: Every = False,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    drop_deadline: Annotated[
        bool, typer.Option("--drop-deadline", help="Also jobs whose deadline has passed.")
    ] = False,
    when_full: IfFull = WhenFull.WAIT,
) -> None:
    """Send jobs again, each as its next run; prints their ids. Exits with 3 where some were not."""
    selection = _explicit(names, reason, older_than, newer_than, every=every)
    letters = _letters()
    seen: set[str] = set()
    replayed = refused = 0

    def send(left: list[Letter | Found]) -> None:
        """Replay those, and leave in the list what must come again."""
        nonlocal replayed, refused
        chunk = list(left)
        left.clear()
        fault: BacklogFull | RedisError | None = None
        outcomes = letters.replay_many([one.entry for one in chunk], drop_deadline=drop_deadline)
        for letter, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, Exception):
                fault = outcome
                left.append(letter)
            elif outcome.verdict is Verdict.REPLAYED:
                replayed += 1
                say(letter.job_id)
            else:
                refused += 1
                tell(f"letter {letter.entry}: {_refusal(letter, outcome)}")
        if fault is not None:
            raise fault

    try:
        for chunk in _chunks(_to_replay(letters, selection), _REPLAYED_AT_ONCE):
            if selection.names:
                seen |= {name for one in chunk for name in (one.entry, one.job_id)}
            enqueue(partial(send, chunk), when_full)
    except (RedisError, BacklogFull) as error:
        fail(f"{explained(error)} ({replayed} replayed before)")
    tell(f"{replayed} replayed, {refused} not")
    _end(selection, seen, refused)


@dead.command()
def purge(
    names: Names = None,
    *,
    every: Every = False,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
) -> None:
    """Delete letters for good; `list` with the same options shows which."""
    selection = _explicit(names, reason, older_than, newer_than, every=every)
    letters = _letters()
    seen: set[str] = set()
    purged = 0
    try:
        chosen: Iterator[Letter | Found] = (
            letters.select(selection) if selection.names else letters.sift(selection)
        )
        for chunk in _chunks(chosen, _PURGED_AT_ONCE):
            if selection.names:
                seen |= {name for one in chunk for name in (one.entry, one.job_id)}
            purged += letters.purge([letter.entry for letter in chunk])
    except RedisError as error:
        fail(f"{explained(error)} ({purged} purged before)")
    tell(f"{purged} purged")
    _end(selection, seen, 0)


def _letters() -> DeadLetters:
    return client_of(settings()).operator.dead_letters


def _selection(
    names: list[str] | None,
    reason: str | None,
    older_than: float | None,
    newer_than: float | None,
) -> Selection:
    return Selection(frozenset(names or ()), reason, older_than, newer_than)


def _explicit(
    names: list[str] | None,
    reason: str | None,
    older_than: float | None,
    newer_than: float | None,
    *,
    every: bool,
) -> Selection:
    """The selection; exits with 2 where it would be everything and nobody said so."""
    chosen = _selection(names, reason, older_than, newer_than)
    if every == (chosen != Selection()):
        fail(
            "name jobs, or use --reason, --older-than, --newer-than, or --all alone",
            status=EXIT_SETTINGS,
        )
    return chosen


def _to_replay(letters: DeadLetters, selection: Selection) -> Iterator[Letter | Found]:
    """Of jobs that are named, only the newest letter can be replayed; and it is found at once."""
    if not selection.names:
        return letters.sift(selection)
    if selection != Selection(selection.names):
        return letters.select(selection)
    return filter(None, map(letters.find, sorted(selection.names)))


def _chunks(letters: Iterator[Item], most: int) -> Iterator[list[Item]]:
    while chunk := list(islice(letters, most)):
        yield chunk


def _refusal(letter: Letter | Found, outcome: Replayed) -> str:
    """Why a letter was not replayed, and what to do about it."""
    job, detail = f"job {letter.job_id}", outcome.detail
    match outcome.verdict:
        case Verdict.PAST_DEADLINE:
            passed = datetime.fromtimestamp(int(detail) / 1000, UTC).isoformat(" ", "seconds")
            return f"{job}: its deadline passed at {passed}; --drop-deadline replays it without"
        case Verdict.MOVED_ON if detail == Status.DEAD:
            return f"{job}: died again in another run, whose letter is the one to replay"
        case Verdict.MOVED_ON:
            return f"{job}: is {detail} by now; nothing is left to replay, so purge the letter"
        case Verdict.GONE:
            return f"{job}: somebody replayed or purged it meanwhile"
        case _:
            return f"no worker wrote it, and it cannot be replayed: {detail}; purge it"


def _no_letter(name: str) -> str:
    return f"{name}: no dead letter of that job or entry; `dead list` shows what there is"


def _end(selection: Selection, seen: set[str], refused: int) -> None:
    """Name what was not found, and exit."""
    missing = sorted(selection.names - seen)
    for name in missing:
        tell(_no_letter(name))
    raise typer.Exit(EXIT_SOME_FAILED if missing or refused else 0)
