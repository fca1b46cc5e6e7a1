"""A look as tables for a terminal, and what to show where there is none to be had."""

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from producer.show import age
from producer.show_lanes import notes, together
from producer.top.desk import Row
from producer.top.figures import milliseconds, rate, share
from producer.top.look import Snapshot
from producer.top.workers import TROUBLE, WIDE, first, trouble, workers_table
from storage.queue.lanes import Overview
from storage.queue.workers import State
from storage.terminal.text import cell

_AROUND_LINES = 14  # headline, lanes, heads of tables, and what is between them
_LEAST_WORKERS = 3
_MOST_LINES, _FEW_LINES = 5, 2  # of each kind; where there is little height
_LITTLE_HEIGHT = 36
_FIRST = ("lane", "cause")
_CHOSEN = "reverse"


def screen(
    snapshot: Snapshot,
    *,
    width: int,
    height: int | None = None,
    chosen: Row | None = None,
    foot: Sequence[Text] = (),
) -> RenderableType:
    """Everything; of more workers than fit the height, those in trouble and the busiest.

    A lane or a cause may be `chosen`, and `foot` is below all.
    """
    workers, narrow = snapshot.fleet.workers, width < WIDE
    most = _FEW_LINES if height is not None and height < _LITTLE_HEIGHT else _MOST_LINES
    lines = [f"{worker.name}: {why}" for worker in workers if (why := trouble(worker))]
    told = [cell(f"workers disagree on {each}") for each in snapshot.disagreements[:most]]
    told += [cell(line) for line in lines[:most]]
    told += _more(len(lines) - most, "in trouble")
    noted = [cell(line) for line in notes(snapshot.lanes)]
    failures = _failures(snapshot, most, chosen, narrow=narrow)
    room = len(workers)
    if height is not None:
        taken = len(noted) + len(told) * (2 if narrow else 1)
        taken += min(most, len(snapshot.causes)) + len(foot)
        room = max(_LEAST_WORKERS, height - _AROUND_LINES - taken)
    shown = first(workers, room)
    table: list[RenderableType] = [workers_table(shown, width)] if shown else []
    if not shown:
        table.append(Text("no worker has said anything lately", style=TROUBLE))
    table += _more(snapshot.fleet.total - len(shown), "workers")
    lanes: list[RenderableType] = [_lanes(snapshot.lanes, chosen, narrow=narrow), *noted]
    headline = _headline(snapshot, narrow=narrow)
    return Group(headline, Text(), *lanes, Text(), *table, *told, Text(), *failures, *foot)


def away(error: Exception, foot: Sequence[Text] = ()) -> RenderableType:
    """What to show while Redis does not answer: no figures, which would be of before."""
    said = Text("Redis does not answer", style=TROUBLE)
    said += Text(f" at {_clock()}; it is asked again and again", style="default")
    return Group(said, cell(str(error)), *foot)


def _headline(snapshot: Snapshot, *, narrow: bool) -> Text:
    every = snapshot.together
    working = sum(worker.state == State.READY for worker in snapshot.fleet.workers)
    told = [
        f"{working} of {snapshot.fleet.total} workers take jobs",
        f"{rate(every.clips_a_second)} clips/s",
        f"{rate(every.audio_seconds_a_second)} s of audio/s",
    ]
    if not narrow:  # and nothing of what nobody knows
        told += [f"latency {milliseconds(every.latency_ms)}"] * (every.latency_ms is not None)
        told += [f"tapes {share(every.tape_fill)} full"] * (every.tape_fill is not None)
        told += [f"devices {share(every.device_share)}"] * (every.device_share is not None)
    return Text(" · ".join([*told, _clock()]), style="bold")


def _lanes(state: Overview, chosen: Row | None, *, narrow: bool) -> Table:
    columns = ["queued", "in flight", "delayed", "dead", "oldest queued", "oldest in flight"]
    table = _table("lane", *columns, narrow=narrow)
    about = {True: "~", False: ""}
    for lane in state.lanes:
        name = Text(lane.lane.value)
        if lane.lane in state.paused_seconds:
            name = Text(f"{lane.lane.value} (paused)", style="yellow")
        table.add_row(
            name,
            f"{lane.queued:,}",
            f"{lane.in_flight:,}",
            f"{about[state.delayed_estimated]}{lane.delayed:,}",
            f"{about[state.dead_estimated]}{lane.dead:,}",
            age(lane.oldest_queued_seconds),
            age(lane.oldest_in_flight_seconds),
            style=_CHOSEN if chosen == Row("lane", lane.lane.value) else "",
        )
    every = together(state)
    counts = (f"{every[name]:,}" for name in ("queued", "in_flight", "delayed", "dead"))
    ages = (age(every[name]) for name in ("oldest_queued_s", "oldest_in_flight_s"))
    table.add_row("all", *counts, *ages, style="bold")
    return table


def _failures(
    snapshot: Snapshot, most: int, chosen: Row | None, *, narrow: bool
) -> list[RenderableType]:
    since = f"the last {snapshot.ends:,} ends ({age(snapshot.ends_seconds)})"
    if not snapshot.causes:
        return [Text(f"no failures in {since}" if snapshot.ends else "nothing has ended lately")]
    table = _table("cause", "jobs", "dead", "waiting", "newest", narrow=narrow)
    table.add_column("such as")
    rows = [Row("cause", cause.code) for cause in snapshot.causes]
    last = max(most, rows.index(chosen) + 1 if chosen in rows else 0)
    for row, cause in list(zip(rows, snapshot.causes, strict=True))[last - most : last]:
        jobs = " ".join(cause.newest[:1] if narrow else cause.newest)
        newest = "-" if cause.ago_seconds is None else f"{age(cause.ago_seconds)} ago"
        counts = (f"{count:,}" for count in (cause.jobs, cause.dead, cause.waiting))
        style = _CHOSEN if row == chosen else ""
        table.add_row(_cut(cause.code), *counts, newest, _cut(jobs), style=style)
    failed = sum(cause.jobs for cause in snapshot.causes)
    rest = _more(len(snapshot.causes) - most, "causes")
    return [Text(f"{failed:,} failed of {since}"), table, *rest]


def _cut(text: str) -> Text:
    """In one line, and shortened where there is no room: of figures, nothing is."""
    made = cell(text)
    made.no_wrap, made.overflow = True, "ellipsis"
    return made


def _more(count: int, what: str) -> Sequence[Text]:
    return [Text(f"and {count:,} more {what}: --json has all", style="dim")] if count > 0 else []


def _table(*columns: str, narrow: bool) -> Table:
    table = Table(
        box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="dim"
    )
    for name in columns:
        left = name in _FIRST
        table.add_column(name, justify="left" if left else "right", no_wrap=not left)
    return table


def _clock() -> str:
    return time.strftime("%H:%M:%S")
