"""A comparison as a bar chart: SVG that needs no library, and is the same wherever it is made."""

from html import escape
from pathlib import Path

from bench.result import Comparison, SideResult
from worker.bench.show import number

_WIDTH, _LEFT, _BAR_WIDTH = 760, 150, 380
_BAR_HEIGHT, _BAR_GAP, _GROUP_GAP, _TITLE_HEIGHT = 22, 6, 36, 44
_OURS, _REFERENCE = "#2a6f97", "#a3a3a3"
_STYLE = "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}"


def write_chart(comparison: Comparison, path: Path) -> Path:
    """Write the chart of a comparison."""
    path.write_text(chart(comparison), encoding="utf-8")
    return path


def chart(comparison: Comparison) -> str:
    """SVG: seconds of audio a second, a bar for each side, a group for each workload."""
    fastest = max(side.rtfx for workload in comparison.workloads for side in workload.sides)
    top, shapes = _TITLE_HEIGHT, []
    for workload in comparison.workloads:
        shapes.append(_text(10, top, f"{workload.count} clips, {workload.meaning}"))
        top += 10
        for side in workload.sides:
            shapes += _bar(side, top, width=round(_BAR_WIDTH * side.rtfx / fastest, 1))
            top += _BAR_HEIGHT + _BAR_GAP
        top += _GROUP_GAP
    device = comparison.machine.device
    title = f"Seconds of audio a second: {device}, {comparison.machine.cores} cores"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top - _GROUP_GAP}">',
        f"<style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        _text(10, 20, title, kind="title"),
        *shapes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(side: SideResult, top: int, *, width: float) -> list[str]:
    """One side: its name, its bar, and what it says."""
    said = number(side.rtfx)
    if side.ratio:
        said += f"  ({side.ratio.median:.2f} × reference)"
    fill = _OURS if side.ratio else _REFERENCE
    middle = top + _BAR_HEIGHT - 6
    return [
        _text(10, middle, f"{side.name}, {side.dtype}"),
        f'<rect x="{_LEFT}" y="{top}" width="{width}" height="{_BAR_HEIGHT}" fill="{fill}"/>',
        _text(_LEFT + width + 8, middle, said),
    ]


def _text(x: float, y: int, text: str, *, kind: str = "plain") -> str:
    return f'<text x="{x:g}" y="{y}" class="{kind}">{escape(text)}</text>'
