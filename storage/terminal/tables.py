"""What is found in the parts of a recording, as a table for people."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.table import Table

from storage.terminal.text import cell

_BAR_CHARACTERS = 20
_PARTS = "▏▎▍▌▋▊▉█"
_SECONDS_A_MINUTE, _SECONDS_AN_HOUR = 60, 3600
_LONGEST_SECONDS = 1e9


class _Row(NamedTuple):
    part: str
    time: str
    speaker: str
    label: str
    score: float | None
    warning: str = ""


def parts_table(result: Mapping[str, Any]) -> Table | None:
    """Channels, segments and timelines of a result, a line each with a bar; None without any.

    `result` is the JSON of one, which anyone may have written: what is of no sense is left out.
    """
    rows = list(_rows(result, "", listed=bool(_items(result, "segments"))))
    if not rows:
        return None
    columns = {"part": False, "time": True, "speaker": False, "label": False, "score": True}
    speakers = any(row.speaker for row in rows)
    warnings = any(row.warning for row in rows)
    table = Table(box=None, pad_edge=False)
    for name, right in columns.items():
        if name != "speaker" or speakers:
            table.add_column(name, justify="right" if right else "left", overflow="fold")
    table.add_column("")
    if warnings:
        table.add_column("warning", overflow="fold")
    for row in rows:
        shown = [row.part, row.time, *[row.speaker] * speakers, row.label]
        shown += ["" if row.score is None else f"{row.score:.3f}", _bar(row.score)]
        table.add_row(*map(cell, [*shown, *[row.warning] * warnings]))
    return table


def _rows(view: Mapping[str, Any], within: str, *, listed: bool) -> Iterator[_Row]:
    """The parts of a recording, or of a channel or segment of it.

    Where segments are `listed` at the top, those that name their channel are among them.
    """
    for item in _items(view, "timeline"):
        yield _row(f"{within}timeline", item)
    for item in _items(view, "segments"):
        channel = item.get("channel")
        if within and listed and channel is not None:
            continue
        where = f"channel {channel} " if isinstance(channel, int) and not within else within
        yield _row(f"{where}segment", item)
        for hop in _items(item, "timeline"):
            yield _row(f"{where}  timeline", hop)
    for item in _items(view, "channels"):
        name = f"channel {item.get('channel', '?')}"
        yield _row(name, item)
        yield from _rows({**item, "channels": ()}, f"{name} ", listed=listed)


def _row(part: str, item: Mapping[str, Any]) -> _Row:
    label, score = item.get("label"), _number(item.get("score"), most=1.0)
    scores = item.get("scores")
    if label is None and isinstance(scores, dict):  # an item of a timeline
        known = {name: _number(value, most=1.0) or 0.0 for name, value in scores.items()}
        label = max(known, key=known.__getitem__, default=None)
        score = known.get(label) if label is not None else None
    return _Row(
        part,
        _time(item),
        _text(item.get("speaker")),
        _text(label),
        score,
        _text(item.get("warning")),
    )


def _items(view: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    listed = view.get(name)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _time(item: Mapping[str, Any]) -> str:
    start, end = (_number(item.get(name), most=_LONGEST_SECONDS) for name in ("start_s", "end_s"))
    return "" if start is None or end is None else f"{_clock(start)} - {_clock(end)}"


def _clock(seconds: float) -> str:
    """`1:02:03.45`, `2:03.45` or `3.45`."""
    hundredths = round(100 * seconds)
    rest = hundredths / 100
    hours, minutes = (
        int(rest // _SECONDS_AN_HOUR),
        int(rest % _SECONDS_AN_HOUR // _SECONDS_A_MINUTE),
    )
    rest %= _SECONDS_A_MINUTE
    if hours:
        return f"{hours}:{minutes:02d}:{rest:05.2f}"
    return f"{minutes}:{rest:05.2f}" if minutes else f"{rest:.2f}"


def _bar(score: float | None) -> str:
    eighths = round(8 * _BAR_CHARACTERS * (score or 0))
    whole, rest = divmod(eighths, 8)
    return _PARTS[-1] * whole + (_PARTS[rest - 1] if rest else "")


def _number(value: object, *, most: float) -> float | None:
    """A number from 0 to `most`; None for anything else."""
    of_kind = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if of_kind and 0 <= value <= most else None  # type: ignore[operator,arg-type]  # as of_kind says


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
