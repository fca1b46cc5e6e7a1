"""A run as one page: no script, no font, no other host; light or dark as the reader's system is."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from producer.stress import plots
from producer.stress.report import Kept, Run
from producer.stress.show import (
    Sheet,
    against,
    described,
    doubts_against,
    headline,
    number,
    served,
    sheets,
)

_STYLE = Path(__file__).with_suffix(".css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SIGNS = {"valid": "✓", "invalid": "!", "failed": "✗"}


def page(kept: Kept, before: Run | None = None) -> str:
    """The page; with a run before, beside it."""
    run = kept.run
    first, *reasons = headline(run)
    blocks = [
        f"<h1>Stress run, {escape(run.began_at.replace('T', ' ').replace('+00:00', ' UTC'))}</h1>",
        f"<p>{escape(described(run.asked))}</p>",
        f'<p class="soft">{escape(served(run))}</p>',
        f'<section class="verdict {run.verdict}"><strong>{_SIGNS[run.verdict]} {escape(first)}'
        f"</strong>{_listed(reasons)}</section>",
        _tiles(run),
        _listed(run.notes),
        f'<div class="plots">{"".join(_plots(run, before))}</div>',
    ]
    if before is not None:
        blocks.append(_listed(doubts_against(before, run)))
        blocks.append(_table(against(before, run)))
    blocks += map(_table, sheets(kept))
    blocks.append(
        '<p class="soft">Latency counts from the time at which a job was intended to be sent to '
        "the time of its result, by Redis’ clock. No p90 is told of fewer than 64 results, and no "
        "p99 of fewer than 459.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Stress run: {run.verdict}</title><style>{_STYLE.read_text()}</style></head>"
        f"<body><main>{''.join(blocks)}</main></body></html>\n"
    )


def _tiles(run: Run) -> str:
    p50, p90, p99, most = (
        None if run.latency is None else getattr(run.latency, f"{name}_ms")
        for name in ("p50", "p90", "p99", "most")
    )
    tiles = {
        "jobs done a second": number(run.rates.done),
        "seconds of audio a second": number(run.rates.audio_s),
        "ms, p50 latency": number(p50),
        "ms, p90": number(p90),
        "ms, p99": number(p99),
        "ms, the slowest": number(most),
    }
    shown = (f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in tiles.items())
    return f'<div class="tiles">{"".join(shown)}</div>'


def _plots(run: Run, before: Run | None) -> list[str]:
    latency = run.latency
    levels = {"p50": latency.p50_ms} if latency else {}
    if latency and latency.p99_ms is not None:
        levels["p99"] = latency.p99_ms
    title = "Latency, ms, by the time at which each job was to be sent"
    shown = [_figure(title, [], plots.dots(run.dots, levels, x_unit="s", title=title))]
    title = "Latency, ms, that so many do not exceed"
    curves = {"this run": run.curve} | ({"before": before.curve} if before else {})
    shown.append(_figure(title, list(curves), plots.tail(curves, title=title)))
    title = "Jobs a second"
    rates = {
        name: [(second.at_s, getattr(second, name)) for second in run.seconds]
        for name in ("offered", "sent", "done")
    }
    shown.append(_figure(title, list(rates), plots.lines(rates, x_unit="s", title=title)))
    title = "Jobs in the lanes"
    lanes = _series(run, {"queued": "queued", "in flight": "in_flight", "delayed": "delayed"})
    if lanes:
        drawn = plots.lines(lanes, x_unit="s", title=title)
        shown.append(_figure(title, list(lanes), drawn))
    title = "Milliseconds in each stage, p50 and p90"
    rows: dict[str, Mapping[str, float]] = {
        name: {"p50": times.p50_ms} | ({} if times.p90_ms is None else {"p90": times.p90_ms})
        for name, times in run.stages.items()
    }
    shown.append(_figure(title, ["p50", "p90"], plots.bars(rows, unit="ms", title=title)))
    title = "Busy, % of the time"
    busy = _series(
        run,
        {"CPU of this machine": "cpu", "device": "device_busy", "tape fill": "tape_fill"},
        times=100,
    )
    if busy:
        drawn = plots.lines(busy, x_unit="s", title=title)
        shown.append(_figure(title, list(busy), drawn))
    return shown


def _series(
    run: Run, names: Mapping[str, str], *, times: float = 1.0
) -> dict[str, list[tuple[float, float]]]:
    """What was seen of each, without what never was."""
    found = {
        told: [(x.at_s, times * v) for x in run.samples if (v := getattr(x, name)) is not None]
        for told, name in names.items()
    }
    return {told: points for told, points in found.items() if points}


def _figure(title: str, named: Sequence[str], drawing: str) -> str:
    keys = (f'<span><i class="k{n}"></i>{escape(name)}</span>' for n, name in enumerate(named))
    key = f'<span class="key">{"".join(keys)}</span>' if named else ""
    return f"<figure><figcaption>{escape(title)}{key}</figcaption>{drawing}</figure>"


def _listed(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _table(sheet: Sheet) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in sheet.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in sheet.rows
    )
    return (
        f'<h2>{escape(sheet.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
