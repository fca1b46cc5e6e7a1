"""Results for people: tables and lines. Programs ask for `--json`."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from storage.queue.dead import Letter
from storage.queue.lanes import LaneState, Overview

STAGES = ("queue_ms", "fetch_ms", "decode_ms", "normalize_ms", "infer_ms")
_HOURS_A_DAY = 24
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Result fields in the order that people read them; what is not here follows.
ORDER = (
    *("job", "name", "key", "status", "label", "score", "scores", "duration_s", "warning"),
    *("error_code", "error", "embedding_key", "frames_key", "timeline"),
    *("model", "model_revision", "device", "dtype", "attempts", "deliveries", "run", "worker"),
    *STAGES,
    *("batch_clips", "finished_at_ms"),
)
_AS_JSON = ("scores", "timeline")
_NUMBERS = {
    *("score", "duration_s", "attempts", "deliveries", "run", "batch_clips", "finished_at_ms"),
    *STAGES,
}


def results_table(rows: Sequence[tuple[str, Mapping[str, str]]], *, first: str = "clip") -> Table:
    """Label, score, duration and stage times of each named result, or its error code."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("seconds", justify="right")
    for stage in STAGES:
        table.add_column(stage.replace("_ms", " ms"), justify="right")
    table.add_column("warning / error")
    for name, result in rows:
        clip = Text(name)  # not markup: a name may well hold [brackets]
        if result.get("status") == "done":
            table.add_row(
                clip,
                result["label"],
                f"{float(result['score']):.3f}",
                result["duration_s"],
                *(result.get(stage, "") for stage in STAGES),
                result.get("warning", ""),
            )
        else:
            table.add_row(clip, result.get("status", ""), *[""] * (len(STAGES) + 2), _code(result))
    return table


def errors(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """What to tell of each result that is not done: too long for a table."""
    return [
        f"{name}: {_code(result)}: {result['error']}" for name, result in rows if "error" in result
    ]


def in_order(result: Mapping[str, str]) -> dict[str, str]:
    """The fields of a result, the important ones first."""
    known = [name for name in ORDER if name in result]
    return {name: result[name] for name in [*known, *sorted(set(result) - set(known))]}


def as_json(job_id: str, result: Mapping[str, str]) -> str:
    """One result as one line of JSON: numbers as numbers, fields that hold JSON opened up."""
    opened: dict[str, object] = dict(in_order({"job": job_id, **result}))
    for name, value in result.items():
        if name in _AS_JSON:
            opened[name] = json.loads(value)
        elif name in _NUMBERS:
            opened[name] = float(value) if "." in value or "e" in value else int(value)
    return json.dumps(opened, ensure_ascii=False)


def aligned(fields: Mapping[str, str]) -> str:
    """Names and values in two columns, a line each."""
    width = max(map(len, fields), default=0)
    return "\n".join(f"{_plain(name):<{width}}  {_plain(value)}" for name, value in fields.items())


def age(seconds: float | None) -> str:
    """`45s`, `12m`, `3h 5m`, `2d 4h`; `-` for none."""
    if seconds is None:
        return "-"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if not minutes:
        return f"{int(seconds)}s"
    if not hours:
        return f"{minutes}m"
    return f"{hours}h {minutes % 60}m" if hours < _HOURS_A_DAY else f"{hours // 24}d {hours % 24}h"


def letters_table(letters: Sequence[Letter], now_ms: int) -> Table:
    """Dead letters, one a line."""
    table = Table(box=None, pad_edge=False)
    for column in ("entry", "job", "lane", "reason"):
        table.add_column(column, overflow="fold")
    for column in ("attempts", "run", "age"):
        table.add_column(column, justify="right")
    table.add_column("worker", overflow="fold")
    table.add_column("key", overflow="fold")
    for letter in letters:
        told = _letter(letter)
        shown = (*told.values(), _died(letter, now_ms), letter.owner, letter.fields.get("key", ""))
        table.add_row(*(Text(_plain(value)) for value in shown))
    return table


def letter_and_job(letter: Letter, now_ms: int, job: Mapping[str, str] | None) -> dict[str, str]:
    """What is known of a letter, and of its job now; the job's own fields are not among it."""
    now = job or {"status": "unknown: its result has expired"}
    return {
        **_letter(letter),
        "worker": letter.owner,
        "age": _died(letter, now_ms),
        **{f"job {name}": now[name] for name in ("status", "run", "error") if name in now},
    }


def letter_as_json(letter: Letter, now_ms: int, job: Mapping[str, str] | None = None) -> str:
    """A letter as one line of JSON; `job_now` is the job's hash, where it was looked up."""
    numbers = {"attempts": letter.attempts, "run": letter.run}
    told: dict[str, object] = {
        **_letter(letter),
        **{name: int(number) for name, number in numbers.items() if number.isdecimal()},
        "worker": letter.owner,
        "died_at_ms": letter.died_at_ms,
        "age_s": (now_ms - letter.died_at_ms) / 1000,
        "fields": letter.fields,
    }
    if job is not None:
        told["job_now"] = json.loads(as_json(letter.job_id, job))
    return json.dumps(told, ensure_ascii=False)


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
    told = [Text(f"{one.stream}: {one.what}, since its ids were used up") for one in state.healed]
    return Group(table, Text(), _workers(state.lanes), *told)


def overview_as_json(state: Overview) -> str:
    """The same as one line of JSON; each lane's consumers too."""
    lanes = {
        lane.lane.value: {
            "queued": lane.queued,
            "in_flight": lane.in_flight,
            "delayed": lane.delayed,
            "dead": lane.dead,
            "oldest_queued_s": lane.oldest_queued_seconds,
            "oldest_in_flight_s": lane.oldest_in_flight_seconds,
            "workers": [
                {"worker": one.name, "in_flight": one.in_flight, "idle_s": one.idle_seconds}
                for one in lane.consumers
            ],
        }
        for lane in state.lanes
    }
    estimated = {"delayed": state.delayed_estimated, "dead": state.dead_estimated}
    healed = [{"stream": one.stream, "what": one.what, "at_ms": one.at_ms} for one in state.healed]
    return json.dumps(
        {"lanes": lanes, "all": _together(state), "estimated": estimated, "healed": healed}
    )


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
        table.add_row(Text(_plain(name)), str(sum(in_flight)), age(min(idle_seconds)))
    return table


def _letter(letter: Letter) -> dict[str, str]:
    return {
        "entry": letter.entry,
        "job": letter.job_id,
        "lane": letter.lane,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "run": letter.run,
    }


def _died(letter: Letter, now_ms: int) -> str:
    return age((now_ms - letter.died_at_ms) / 1000)


def _plain(text: str) -> str:
    """Text that anyone may have written, safe for a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _code(result: Mapping[str, str]) -> str:
    return result.get("error_code", "")
