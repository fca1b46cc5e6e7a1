"""The lanes for people, as tables, and for programs, as JSON."""

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from producer.show import age
from storage.queue.lanes import LaneState, Overview
from storage.terminal.text import cell, json_line


def overview(state: Overview) -> Group:
    """The lanes, what they hold together, and the workers."""
    table = Table(box=None, pad_edge=False)
    table.add_column("lane")
    for column in ("queued", "in flight", "delayed", "dead", "oldest queued", "oldest in flight"):
        table.add_column(column, justify="right")
    about = {True: "~", False: ""}
    for lane in state.lanes:
        table.add_row(
            lane.lane.value,
            str(lane.queued),
            str(lane.in_flight),
            f"{about[state.delayed_estimated]}{lane.delayed}",
            f"{about[state.dead_estimated]}{lane.dead}",
            age(lane.oldest_queued_seconds),
            age(lane.oldest_in_flight_seconds),
        )
    every = _together(state)
    table.add_row(
        "all",
        *(str(every[name]) for name in ("queued", "in_flight", "delayed", "dead")),
        age(every["oldest_queued_s"]),
        age(every["oldest_in_flight_s"]),
    )
    told = [
        cell(f"{lane.value}: paused for {age(seconds)}; `lanes resume {lane.value}` goes on")
        for lane, seconds in state.paused_seconds.items()
    ]
    told += [cell(f"{one.stream}: {one.what}, since its ids were used up") for one in state.healed]
    return Group(table, Text(), _workers(state.lanes), *told)


def overview_as_json(state: Overview) -> str:
    """The same as one line of JSON; each lane's consumers too."""
    return json_line(overview_told(state))


def overview_told(state: Overview) -> dict[str, object]:
    """What that holds."""
    lanes = {
        lane.lane.value: {
            "queued": lane.queued,
            "in_flight": lane.in_flight,
            "delayed": lane.delayed,
            "dead": lane.dead,
            "oldest_queued_s": lane.oldest_queued_seconds,
            "oldest_in_flight_s": lane.oldest_in_flight_seconds,
            "paused_s": state.paused_seconds.get(lane.lane),
            "workers": [
                {"worker": one.name, "in_flight": one.in_flight, "idle_s": one.idle_seconds}
                for one in lane.consumers
            ],
        }
        for lane in state.lanes
    }
    estimated = {"delayed": state.delayed_estimated, "dead": state.dead_estimated}
    healed = [{"stream": one.stream, "what": one.what, "at_ms": one.at_ms} for one in state.healed]
    return {"lanes": lanes, "all": _together(state), "estimated": estimated, "healed": healed}


def _together(state: Overview) -> dict[str, float | None]:
    """All lanes as one. Delayed and dead are counted here, also where the lanes' are estimates."""

    def oldest(ages: Iterable[float | None]) -> float | None:
        return max((age for age in ages if age is not None), default=None)

    return {
        "queued": sum(lane.queued for lane in state.lanes),
        "in_flight": sum(lane.in_flight for lane in state.lanes),
        "delayed": state.delayed,
        "dead": state.dead,
        "oldest_queued_s": oldest(lane.oldest_queued_seconds for lane in state.lanes),
        "oldest_in_flight_s": oldest(lane.oldest_in_flight_seconds for lane in state.lanes),
    }


def _workers(lanes: Sequence[LaneState]) -> Table:
    """Each worker over all lanes; it is as silent as the lane that heard of it last."""
    table = Table(box=None, pad_edge=False)
    table.add_column("worker", overflow="fold")
    table.add_column("in flight", justify="right")
    table.add_column("silent for", justify="right")
    seen: dict[str, list[tuple[int, float]]] = {}
    for lane in lanes:
        for one in lane.consumers:
            seen.setdefault(one.name, []).append((one.in_flight, one.idle_seconds))
    for name, found in sorted(seen.items()):
        in_flight, idle_seconds = zip(*found, strict=True)
        table.add_row(cell(name), str(sum(in_flight)), age(min(idle_seconds)))
    return table
