"""A snapshot as tables that fit: more columns where the terminal is wide, fewer rows where low."""

from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from producer.show import age
from producer.top.snapshot import Snapshot
from storage.queue.lanes import Overview
from storage.queue.recent import Recent
from storage.queue.workers import Fleet, Gpu, State, Worker
from storage.terminal.text import cell

_WIDE = 130
_FAILURES = 8
_FIXED_LINES = 16  # of all but workers and failures
_GB = 1e9
_TROUBLE = {State.SICK, State.STORE_AWAY, State.REDIS_AWAY, State.STUCK}
_OF_STATE = {State.READY: "green", State.WARMING: "yellow", State.DRAINING: "yellow"}

Column = tuple[str, Callable[[Worker], str], bool]  # heading, value, whether for wide ones alone


def page(snapshot: Snapshot, *, width: int, height: int | None = None) -> Group:
    """All of it; `height` is that of the terminal, None where all rows are to be shown."""
    failures = snapshot.recent.failures[:_FAILURES]
    rows = None if height is None else max(3, height - _FIXED_LINES - len(failures))
    parts: list[RenderableType] = [_headline(snapshot), Text(), _lanes(snapshot.lanes), Text()]
    parts += [*_workers(snapshot.fleet, wide=width >= _WIDE, rows=rows), Text()]
    parts += _failures(snapshot.recent, snapshot.fleet.at_ms)
    return Group(*parts)


def away(error: Exception) -> Group:
    """What is shown while Redis does not answer: no figure of before."""
    return Group(Text("Redis does not answer; trying again", style="bold red"), cell(str(error)))


def _headline(snapshot: Snapshot) -> Text:
    rates, fleet = snapshot.rates, snapshot.fleet
    ready = sum(worker.state == State.READY for worker in fleet.workers)
    told = [
        f"{ready} of {fleet.total} workers ready",
        f"{_figure(rates.clips_a_second)} clips/s",
        f"{_figure(rates.audio_seconds_a_second)} s of audio/s",
        f"latency {_milliseconds(rates.latency_ms)}",
        f"tapes {_share(rates.tape_fill)}",
        f"device {_share(rates.device_share)}",
    ]
    return Text("  ".join(told), style="bold")


def _lanes(state: Overview) -> Table:
    table = _table("lane")
    for column in ("queued", "in flight", "delayed", "dead", "oldest", "paused"):
        table.add_column(column, justify="right", no_wrap=True)
    about = {True: "~", False: ""}
    for lane in state.lanes:
        paused = state.paused_seconds.get(lane.lane)
        table.add_row(
            lane.lane.value,
            f"{lane.queued:,}",
            f"{lane.in_flight:,}",
            f"{about[state.delayed_estimated]}{lane.delayed:,}",
            f"{about[state.dead_estimated]}{lane.dead:,}",
            age(lane.oldest_queued_seconds),
            Text("-" if paused is None else age(paused), style="yellow" if paused else ""),
        )
    queued, in_flight = (
        sum(getattr(lane, name) for lane in state.lanes) for name in ("queued", "in_flight")
    )
    together = (queued, in_flight, state.delayed, state.dead)
    table.add_row("all", *(f"{count:,}" for count in together), "", "", style="bold")
    return table


_COLUMNS: Sequence[Column] = (
    ("jobs", lambda one: _whole(one.in_flight), False),
    ("done", lambda one: _whole(one.done), True),
    ("not done", lambda one: _whole(one.not_done), True),
    ("clips/s", lambda one: _figure(one.clips_a_second), False),
    ("audio/s", lambda one: _figure(one.audio_seconds_a_second), False),
    ("latency", lambda one: _milliseconds(one.latency_ms), False),
    ("tapes", lambda one: _share(one.tape_fill), False),
    ("device", lambda one: _share(one.device_share), False),
    ("cores", lambda one: _figure(one.cores), True),
    ("memory", lambda one: _gigabytes(one.memory_bytes), True),
    ("runs on", lambda one: f"{one.device} {one.dtype}", True),
    ("GPU busy", lambda one: _share(one.gpu.utilization if one.gpu else None), True),
    ("GPU memory", lambda one: _gigabytes(one.gpu.memory_used_bytes if one.gpu else None), True),
    ("GPU", lambda one: one.gpu.verdict if one.gpu else "-", True),
)


def _workers(fleet: Fleet, *, wide: bool, rows: int | None) -> Iterator[RenderableType]:
    """Those in trouble first; why, and what to change on a GPU, below."""
    if not fleet.workers:
        yield Text("no worker has spoken lately", style="bold yellow")
        return
    ordered = sorted(fleet.workers, key=lambda one: (one.state not in _TROUBLE, one.name))
    shown = ordered if rows is None else ordered[:rows]
    table = _table("worker")
    table.add_column("state", no_wrap=True)
    chosen = [column for column in _COLUMNS if wide or not column[2]]
    for heading, _, _ in chosen:
        table.add_column(heading, justify="right", no_wrap=True)
    for worker in shown:
        style = "red" if worker.state in _TROUBLE else _OF_STATE.get(_state(worker), "")
        state = cell(worker.state)
        state.stylize(style)
        table.add_row(cell(worker.name), state, *(cell(value(worker)) for _, value, _ in chosen))
    yield table
    if fleet.total > len(shown):
        yield Text(f"and {fleet.total - len(shown)} more: --once or --json tells of all")
    for worker in shown:
        if worker.sickness:
            yield cell(f"{worker.name}: {worker.sickness}")
        if worker.gpu and (worker.gpu.change or not wide):
            yield cell(f"{worker.name}: {_gpu(worker.gpu)}")


def _gpu(gpu: Gpu) -> str:
    """In one line, with what to change."""
    busy, memory = _share(gpu.utilization), _gigabytes(gpu.memory_used_bytes)
    told = f"GPU {gpu.verdict}, {busy} busy, {memory}"
    return f"{told}: {gpu.reason}; {gpu.change}" if gpu.change else told


def _failures(recent: Recent, now_ms: int) -> Iterator[RenderableType]:
    ended = sum(recent.ends.values())
    if not recent.failures:
        yield Text(f"none of the last {ended:,} jobs failed" if ended else "no job has ended yet")
        return
    since = age((now_ms - (recent.since_ms or now_ms)) / 1000)
    yield Text(f"failures among the last {ended:,} jobs, in {since}:")
    table = Table(box=None, pad_edge=False)
    table.add_column("cause", no_wrap=True)
    for column in ("jobs", "last"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("job", overflow="ellipsis")
    for one in recent.failures[:_FAILURES]:
        ago = age((now_ms - one.last_at_ms) / 1000)
        table.add_row(cell(one.code), f"{one.jobs:,}", ago, cell(one.last_job))
    yield table


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="ellipsis")  # gives way where it is narrow
    return table


def _state(worker: Worker) -> State | None:
    return State(worker.state) if worker.state in list(State) else None


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.3g}"  # noqa: PLR2004 (three digits)


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 1000 else f"{_figure(value / 1000)} s"  # noqa: PLR2004 (a second)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _gigabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / _GB:.1f} GB"
