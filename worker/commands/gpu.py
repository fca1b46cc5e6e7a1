"""`gpu`: what the GPUs of this machine do, and whether that is as it should be."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from storage.terminal.text import cell, json_line, say, tell
from worker.commands.program import PAGE_WIDTH, fail, load_settings
from worker.telemetry.gpu import GpuReading, Gpus, NoGpu, opened
from worker.telemetry.verdict import Verdict, verdict
from worker.telemetry.work import Look, NoWorker, Work, between, look

_GB = 1e9


def gpu(
    worker: Annotated[
        str | None,
        typer.Option(help="host:port of a worker's metrics. Default: EMO_METRICS_ADDRESS."),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="What `worker bench engine --json` said here, to compare with."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Between two looks at a worker.")] = 5.0,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a look.")] = False,
) -> None:
    """Read the GPUs of this machine, judge them, and say which setting to change."""
    expected = _audio_seconds(bench) if bench else None
    try:
        url = _url(worker) if worker else _usual_worker()
        with opened() as gpus:
            _show(_pages(gpus, url, expected, seconds), watch=watch, as_json=as_json)
    except (NoGpu, NoWorker) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


_Page = list[tuple[GpuReading, Work | None, Verdict]]


def _pages(gpus: Gpus, url: str | None, expected: float | None, seconds: float) -> Iterator[_Page]:
    """A look each `seconds`; the worker's part is what it did in between."""
    psutil.cpu_percent()  # of the time since
    last = look(url) if url else None
    while True:
        time.sleep(seconds if last else 0.0)
        now = look(url) if url else None
        work = between(last, now) if last and now else None
        busy = psutil.cpu_percent() / 100
        yield list(_judged(gpus.all(), now, work, expected, busy))
        if not last:
            time.sleep(seconds)
        last = now


def _judged(
    readings: Sequence[GpuReading],
    now: Look | None,
    work: Work | None,
    expected: float | None,
    machine_busy: float,
) -> Iterator[tuple[GpuReading, Work | None, Verdict]]:
    """A worker's account is of the GPU that it names; of the only one where it names none."""
    alone = len(readings) == 1
    for reading in readings:
        its = now is not None and (now.gpu == reading.uuid or (now.gpu is None and alone))
        done = work if its else None
        yield reading, done, verdict(reading, done, expected, machine_busy)


def _show(pages: Iterator[_Page], *, watch: bool, as_json: bool) -> None:
    if as_json:
        for page in pages:
            for reading, work, found in page:
                say(json_line(_json(reading, work, found)))
            if not watch:
                return
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    if not watch:
        return console.print(_table(next(pages)))
    with Live(console=console, auto_refresh=False) as live:
        for page in pages:
            live.update(_table(page), refresh=True)


def _json(reading: GpuReading, work: Work | None, found: Verdict) -> dict[str, Any]:
    return {
        "gpu": asdict(reading),
        "worker": asdict(work) if work else None,
        "verdict": asdict(found),
    }


def _table(page: _Page) -> Group:
    tables = []
    for reading, work, found in page:
        table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
        table.title = cell(f"GPU {reading.index}: {reading.name}, driver {reading.driver}")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in [*_readings(reading), *_work(work), *_verdict(found)]:
            table.add_row(name, cell(value))
        tables.append(table)
    return Group(*tables)


def _readings(gpu: GpuReading) -> Iterator[tuple[str, str]]:
    yield "utilisation", "not told" if gpu.utilization is None else f"{gpu.utilization:.0%}"
    yield "memory", _gigabytes(gpu.memory_used_bytes, gpu.memory_total_bytes)
    yield "power", _of(gpu.watts, gpu.limit_watts, "W")
    yield "clock", _of(gpu.sm_mhz, gpu.most_sm_mhz, "MHz")
    if gpu.held_down_by:
        yield "held down by", ", ".join(gpu.held_down_by)
    yield "temperature", "not told" if gpu.celsius is None else f"{gpu.celsius} °C"
    if gpu.programs:
        yield "programs", ", ".join(str(program.pid) for program in gpu.programs)


def _work(work: Work | None) -> Iterator[tuple[str, str]]:
    if work is None:
        yield "worker", "none asked: --worker host:port, or EMO_METRICS_ADDRESS"
        return
    yield "works on tapes", f"{work.device_share:.0%} of the time"
    yield "tape fill", "no tape" if work.tape_fill is None else f"{work.tape_fill:.0%}"
    if work.clips_a_tape is not None:
        yield "clips a tape", f"{work.clips_a_tape:.1f}"
    yield "seconds of audio a second", f"{work.audio_seconds_a_second:,.0f}"
    yield "jobs a second", f"{work.jobs_a_second:,.1f}"
    yield "jobs in flight", f"{work.in_flight:,}"
    yield "its process", f"{work.cores:.1f} cores"


def _verdict(found: Verdict) -> Sequence[tuple[str, str]]:
    said = [("verdict", f"{found.state}: {found.reason}")]
    return [*said, ("to do", found.change)] if found.change else said


def _gigabytes(used: int | None, total: int | None) -> str:
    if used is None or total is None:
        return "not told"
    return f"{used / _GB:.1f} of {total / _GB:.1f} GB"


def _of(value: float | None, most: float | None, unit: str) -> str:
    if value is None:
        return "not told"
    return f"{value:,.0f} {unit}" if most is None else f"{value:,.0f} of {most:,.0f} {unit}"


def _url(address: str) -> str:
    """Of the worker that listens at an address; one that listens everywhere is asked here."""
    host, _, port = address.rpartition(":")
    here = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
    return f"http://{here.get(host, host)}:{port}/metrics"


def _usual_worker() -> str | None:
    """Of the worker of these settings, if it runs."""
    address = load_settings().metrics_address
    if not address:
        return None
    try:
        look(_url(address))
    except NoWorker as error:
        tell(f"no worker is asked: {error}")
        return None
    return _url(address)


def _audio_seconds(path: Path) -> float:
    """Seconds of audio a second, of a report of the engine's. Ends the program for another file."""
    try:
        return float(json.loads(path.read_text())["result"]["rtfx"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{path}: not what `worker bench engine --json` printed: {error!r}")
