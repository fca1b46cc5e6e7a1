"""Reports as tables, for a terminal and for Markdown."""

from dataclasses import dataclass

from rich.table import Table

from storage.terminal.text import cell
from worker.bench.choices import Part
from worker.bench.report import (
    STAGES,
    DecodeReport,
    EndToEndReport,
    EngineReport,
    FeedReport,
    Latency,
    Limits,
    Report,
    SpeechReport,
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of text: the first column names things, the others say something of them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", box=None)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*map(cell, row))
        return table

    def markdown(self) -> str:
        """For a page; the title is left to it."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))


def sheets(report: Report) -> list[Sheet]:
    """All that a report says."""
    return [about(report), *figures(report)]


def about(report: Report) -> Sheet:
    """What it was measured with."""
    machine = report.machine
    rows = [
        ("machine", f"{machine.device}, {machine.cores} cores"),
        ("flags", " ".join(machine.flags)),
        ("torch", machine.torch),
    ]
    if report.part in {Part.ENGINE, Part.END_TO_END}:
        rows += [("model", f"{report.model} in {report.dtype}"), ("clips", report.clips)]
    return Sheet("Measured with", ("what", "value"), tuple(rows))


def figures(report: Report) -> list[Sheet]:
    """What was measured."""
    result = report.result
    if isinstance(result, DecodeReport):
        return [_decode(result), *([_resampling(result)] if result.resampling else [])]
    if isinstance(result, SpeechReport):
        return [_speech(result)]
    if isinstance(result, FeedReport):
        return [_feed(result)]
    if isinstance(result, EndToEndReport):
        return [_end_to_end(result)]
    return [_engine(result), _ladder(result), _limits(result.limits), _products(result.limits)]


def number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 (three digits)


def _engine(report: EngineReport) -> Sheet:
    rows = [
        ("seconds of audio a second", number(report.rtfx)),
        ("clips a second", number(report.clips_per_second)),
        ("one clip of 5 s, ms", _latency(report.one_clip)),
        (f"a tape of {report.tape_slots} slots, ms", _latency(report.full_tape)),
        ("tape fill: slots used of those run", f"{report.tape_fill:.1%}"),
        ("warm-up, s", number(report.warm_up_seconds)),
    ]
    if report.device_busy is not None:
        rows.insert(-1, ("the device works, of that time", f"{report.device_busy:.1%}"))
    return Sheet("The engine", ("what", "value"), tuple(rows))


def _ladder(report: EngineReport) -> Sheet:
    rows = (
        (
            str(rung.slots),
            str(rung.clips),
            number(rung.ms),
            number(rung.us_per_slot),
            number(rung.rtfx),
        )
        for rung in report.ladder
    )
    columns = ("slots", "clips", "ms", "µs a slot", "audio s / s")
    return Sheet("A tape by its length, of 5 s clips", columns, tuple(rows))


def _limits(limits: Limits) -> Sheet:
    rows = (
        (
            f"one big product; {limits.gflop_per_audio_second:.2f} GFLOP a second of audio",
            f"{number(limits.matrix_gflops)} GFLOP/s",
            number(limits.rtfx_matrix),
            f"{limits.share_matrix:.0%}",
        ),
        (
            "the network's own products, nothing between them",
            "below",
            number(limits.rtfx_products),
            f"{limits.share_products:.0%}",
        ),
        (
            f"memory, all else fused; {limits.megabytes_per_audio_second:.1f} MB a second of audio",
            f"{number(limits.copy_gigabytes_per_second)} GB/s",
            number(limits.rtfx_memory),
            f"{limits.share_memory:.0%}",
        ),
    )
    columns = ("limit", "measured", "audio s / s at most", "the engine's share")
    return Sheet("What the device could do", columns, rows)


def _products(limits: Limits) -> Sheet:
    rows = tuple((name, number(gflops)) for name, gflops in limits.product_gflops.items())
    return Sheet("The network's own products, each alone", ("product", "GFLOP/s"), rows)


def _decode(report: DecodeReport) -> Sheet:
    rows = (
        (
            each.file,
            number(each.audio_seconds),
            number(each.alone.p50_ms),
            _told(each.alone.p99_ms),
            number(each.files_per_second),
            number(each.cpu_ms),
            number(each.cpu_ms_per_audio_second),
            _told(each.cpu_against_program),
        )
        for each in report.formats
    )
    columns = ("file", "audio s", "alone p50, ms", "p99, ms", "files / s", "CPU ms a file")
    title = f"The decode stage, decode processes: {report.processes}"
    more = ("CPU ms / audio s", "CPU against the ffmpeg program")
    return Sheet(title, (*columns, *more), tuple(rows))


def _resampling(report: DecodeReport) -> Sheet:
    rows = tuple(
        (
            each.file,
            number(each.with_resampling_ms),
            _told(each.with_resampling_against_program),
            number(each.without_ms),
            _told(each.without_against_program),
        )
        for each in report.resampling
    )
    columns = ("file", "with its resampling, ms", "against ffmpeg with it")
    more = ("left to the device, ms", "against ffmpeg without")
    title = "CPU of the decode processes alone, in turns with the ffmpeg program"
    return Sheet(title, (*columns, *more), rows)


def _speech(report: SpeechReport) -> Sheet:
    rows = (
        (
            f"{number(report.audio_seconds)} s of audio, {report.turns} turns, ms",
            _latency(report.alone),
        ),
        ("CPU ms a second of audio", number(report.cpu_ms_per_audio_second)),
        ("seconds of audio a second, one thread", number(report.rtfx)),
        (f"the same, threads: {report.threads}", number(report.rtfx_threads)),
    )
    return Sheet("Where speech is", ("what", "value"), rows)


def _end_to_end(report: EndToEndReport) -> Sheet:
    loads = (report.at_once, report.half_load)
    rows = [
        ("jobs", *(str(load.jobs) for load in loads)),
        ("clips a second", *(number(load.clips_per_second) for load in loads)),
        ("seconds of audio a second", *(number(load.rtfx) for load in loads)),
        ("queue to done, ms", *(_latency(load.queue_to_done) for load in loads)),
    ]
    if late := report.half_load.late:
        rows.append(("submitted late, ms", "", _latency(late)))
    for stage in STAGES:
        rows.append((f"{stage}, ms, p50", *(number(load.stage_p50_ms[stage]) for load in loads)))
    rows += [
        ("clips on a tape", *(number(load.clips_per_tape) for load in loads)),
        ("tapes under way, mean", *(number(load.tapes_under_way) for load in loads)),
    ]
    if share := report.against_engine:
        spread = f"{share.median:.1%} ({share.least:.1%} to {share.most:.1%})"
        rows.append(("speed against the engine alone, in turns", spread, ""))
    return Sheet("The whole service", ("what", "all at once", "at half that rate"), tuple(rows))


def _feed(report: FeedReport) -> Sheet:
    rows = (
        ("jobs a second", number(report.jobs_per_second)),
        *((f"CPU ms a job: {name}", f"{ms:.3f}") for name, ms in report.cpu_ms.items()),
        *((f"of the worker: {name}", f"{ms:.3f}") for name, ms in report.thread_ms.items()),
        ("Python's lock is held, at most", f"{report.lock_held:.0%}"),
        ("ms a job under it, at most", f"{report.lock_ms:.3f}"),
        ("memory of the worker, MB", number(report.resident_megabytes)),
        ("decode processes, fetch threads", f"{report.processes}, {report.fetch_threads}"),
        ("jobs", str(report.jobs)),
    )
    title = f"Without the network ({report.model}): {report.what}"
    return Sheet(title, ("what", "value"), rows)


def tail(latency: Latency) -> str:
    """The highest percentile that the runs are enough for, or else the slowest of them."""
    named = (("p99", latency.p99_ms), ("p90", latency.p90_ms), ("most", latency.most_ms))
    return next((f"{name} {number(ms)}" for name, ms in named if ms is not None), "")


def _latency(latency: Latency) -> str:
    told = filter(None, (f"p50 {number(latency.p50_ms)}", tail(latency)))
    return f"{', '.join(told)} ({latency.runs} runs)"


def _told(value: float | None) -> str:
    return "—" if value is None else number(value)
