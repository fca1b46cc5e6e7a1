"""Plots as SVG, drawn by hand: no script, no library, and no other host. Colours are the page's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 440, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 30
_TICKS = 5
_BAR, _BAR_GAP, _NAME_WIDTH, _SAID_WIDTH = 20, 10, 84, 140
_THOUSAND, _LONG = 1000, 10_000

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from 0 to `high` on pixels."""

    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Axis":
        """One that ends at a round value."""
        high = max([*values, 0.0]) or 1.0
        step = _round_up(high / _TICKS)
        return cls(step * math.ceil(high / step - 1e-9))

    @property
    def ticks(self) -> list[float]:
        """Round values on it."""
        step = _round_up(self.high / _TICKS)
        return [step * n for n in range(round(self.high / step) + 1)]

    def x(self, value: float) -> float:
        """From the left."""
        return round(_LEFT + value / self.high * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """From the top."""
        return round(_HEIGHT - _BOTTOM - value / self.high * (_HEIGHT - _TOP - _BOTTOM), 1)


def lines(series: Mapping[str, Points], *, x_unit: str, title: str) -> str:
    """A line for each series, in order of their colours."""
    x = Axis.over([at for points in series.values() for at, _ in points])
    y = Axis.over([value for points in series.values() for _, value in points])
    drawn = [
        f'<polyline class="line c{colour}" points="{_path(points, x, y)}"/>'
        for colour, points in enumerate(series.values())
    ]
    return _framed(title, [*_grid(y), *_bottom(x, x.ticks, x_unit), *drawn])


def dots(points: Points, levels: Mapping[str, float], *, x_unit: str, title: str) -> str:
    """A dot for each point, and a level line for each name."""
    x = Axis.over([at for at, _ in points])
    y = Axis.over([value for _, value in points])
    drawn = [f'<circle class="dot" cx="{x.x(at)}" cy="{y.y(ms)}" r="2"/>' for at, ms in points]
    for name, value in levels.items():
        drawn.append(f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_both(y, value)}/>')
        drawn.append(_text(_WIDTH - _RIGHT, y.y(value) - 4, name, anchor="end", kind="name"))
    return _framed(title, [*_grid(y), *_bottom(x, x.ticks, x_unit), *drawn])


def tail(series: Mapping[str, Points], *, title: str) -> str:
    """Values by their share, stretched towards 1: as much room from 0.9 to 0.99 as up to 0.9."""
    highest = max((share for points in series.values() for share, _ in points), default=0.9)
    x = Axis(_stretched(highest))
    y = Axis.over([value for points in series.values() for _, value in points])
    drawn = []
    for colour, points in enumerate(series.values()):
        stretched = [(_stretched(share), value) for share, value in points]
        drawn.append(f'<polyline class="line c{colour}" points="{_path(stretched, x, y)}"/>')
    marks = [share for share in (0.0, 0.5, 0.75, 0.9, 0.95, 0.99) if share <= highest + 1e-9]
    named = {_stretched(share): f"p{100 * share:g}" for share in marks}
    return _framed(title, [*_grid(y), *_bottom(x, list(named), named=named), *drawn])


def bars(rows: Mapping[str, Mapping[str, float]], *, unit: str, title: str) -> str:
    """Of each row its values, the longest at the back; they are named in order of their colours."""
    most = max((value for row in rows.values() for value in row.values()), default=0.0) or 1.0
    room = _WIDTH - _NAME_WIDTH - _SAID_WIDTH
    shapes = []
    for number, (name, row) in enumerate(rows.items()):
        top = _TOP + number * (_BAR + _BAR_GAP)
        shapes.append(_text(_NAME_WIDTH - 8, top + 15, name, anchor="end"))
        widths = {colour: room * value / most for colour, value in enumerate(row.values())}
        for colour, width in sorted(widths.items(), key=lambda item: -item[1]):
            shapes.append(
                f'<rect class="bar c{colour}" x="{_NAME_WIDTH}" y="{top}" height="{_BAR}" '
                f'width="{max(1.0, width):.1f}"/>'
            )
        said = " / ".join(
            f"{value:,.3g}" if value < _THOUSAND else f"{value:,.0f}" for value in row.values()
        )
        end = _NAME_WIDTH + max(widths.values(), default=0.0) + 6
        shapes.append(_text(end, top + 15, f"{said} {unit}", kind="name"))
    height = 2 * _TOP + len(rows) * (_BAR + _BAR_GAP) - _BAR_GAP
    return _framed(title, shapes, height=height)


def _framed(title: str, shapes: Sequence[str], *, height: int = _HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(shapes)}</svg>"
    )


def _grid(y: Axis) -> list[str]:
    shapes = []
    for value in y.ticks:
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" {_both(y, value)}/>')
        shapes.append(_text(_LEFT - 6, y.y(value) + 4, _tick(value, y.high), anchor="end"))
    return shapes


def _bottom(
    x: Axis, ticks: Sequence[float], unit: str = "", *, named: Mapping[float, str] | None = None
) -> list[str]:
    last = ticks[-1] if ticks else 0.0
    shapes = []
    for value in ticks:
        said = (named or {}).get(
            value, f"{_tick(value, x.high)} {unit if value == last else ''}".strip()
        )
        anchor = "end" if value == last else "middle"
        shapes.append(_text(x.x(value), _HEIGHT - _BOTTOM + 18, said, anchor=anchor))
    return shapes


def _both(y: Axis, value: float) -> str:
    return f'y1="{y.y(value)}" y2="{y.y(value)}"'


def _path(points: Points, x: Axis, y: Axis) -> str:
    return " ".join(f"{x.x(at)},{y.y(value)}" for at, value in points)


def _stretched(share: float) -> float:
    return -math.log10(max(1e-9, 1 - share))


def _text(x: float, y: float, said: str, *, anchor: str = "start", kind: str = "tick") -> str:
    at = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {at} text-anchor="{anchor}">{escape(said)}</text>'


def _tick(value: float, high: float) -> str:
    """Thousands of an axis that is long are all told as such."""
    if value and high >= _LONG:
        return f"{value / _THOUSAND:,g}k"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 … times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        float(f"{n * power:.6g}") for n in (1, 2, 2.5, 5, 10) if n * power >= value * (1 - 1e-9)
    )
