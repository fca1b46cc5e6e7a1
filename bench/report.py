"""A comparison as tables, for the terminal and for docs/performance.md."""

import os
from collections.abc import Mapping
from pathlib import Path

from bench.result import Comparison, SideResult, Workload
from worker.bench.show import Sheet, figures, number, tail

_UNKNOWN = "—"


def sheet(comparison: Comparison) -> Sheet:
    """A row for each side on each workload."""
    columns = ("clips", "side", "audio s / s", "× reference", "clips / s", "one clip p50, ms")
    rows = (_row(workload, side) for workload in comparison.workloads for side in workload.sides)
    return Sheet(
        f"Side by side, {comparison.rounds} rounds",
        (*columns, "tail, ms", "CPU s / audio s", "tape fill", "scores differ by"),
        tuple(rows),
    )


def markdown(results: Mapping[Path, Comparison], base: Path) -> str:
    """Every result as a section; `base` is the directory of the page, for its links."""
    return "\n\n".join(_section(path, result, base) for path, result in results.items())


def _section(path: Path, comparison: Comparison, base: Path) -> str:
    machine = comparison.machine
    about = [
        *([machine.cpu] if machine.device != machine.cpu else []),
        *([" ".join(machine.flags)] if machine.flags else []),
        *([f"torch {machine.torch}"] if machine.torch else []),
        machine.date,
        f"`{comparison.model}`",
        f"{comparison.rounds} rounds",
    ]
    warnings = [*comparison.warnings, *(w for part in comparison.parts for w in part.warnings)]
    blocks = [
        f"### {machine.device}, {machine.cores} cores",
        "; ".join(about) + ".",
        *(f"Not to be trusted: {warning}." for warning in dict.fromkeys(warnings)),
        sheet(comparison).markdown(),
        f"![Seconds of audio a second, by side]({_link(path.with_suffix('.svg'), base)})",
    ]
    for part in comparison.parts:
        of = f", `{part.model}` in {part.dtype}, {part.clips}" if part.dtype else ""
        for figure in figures(part):
            blocks += [f"**{figure.title}**{of}:", figure.markdown()]
    return "\n\n".join(blocks)


def _link(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _row(workload: Workload, side: SideResult) -> tuple[str, ...]:
    latency, ratio, differ = side.latency, side.ratio, side.largest_score_difference
    return (
        f"{workload.count} × {workload.clips}",
        f"{side.name}, {side.dtype}",
        number(side.rtfx),
        f"{ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})" if ratio else _UNKNOWN,
        number(side.clips_per_second),
        number(latency.p50_ms) if latency else _UNKNOWN,
        (tail(latency) if latency else "") or _UNKNOWN,
        number(side.cpu_seconds_per_audio_second),
        _UNKNOWN if side.tape_fill is None else f"{side.tape_fill:.1%}",
        _UNKNOWN if differ is None else f"{differ:.1e}",
    )
