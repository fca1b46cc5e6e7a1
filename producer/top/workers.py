"""The workers as a table: the narrower the terminal, the fewer columns."""

from collections.abc import Sequence
from typing import Literal

from rich.cells import set_cell_size
from rich.table import Table
from rich.text import Text

from producer.client import Worker
from producer.top.figures import gigabytes, milliseconds, of_gigabytes, rate, share
from storage.queue.workers import State
from storage.terminal.text import cell

WIDE = 120
_MOST_DETAIL = 3
TROUBLE = "bold red"
_COLOURS = {State.READY: "green", State.WARMING: "cyan", State.DRAINING: "cyan"}
_TEXT = ("worker", "state", "GPU", "by")  # the others are figures
_LEAST_NAME = 10
_TAIL = 8  # characters by which names of workers on one host differ


def workers_table(workers: Sequence[Worker], width: int) -> Table:
    """A line each, with all columns that fit: names may be cut, and no figure is."""
    gap = 2 if width >= WIDE else 1
    for detail in range(_MOST_DETAIL if width >= WIDE else 0, -1, -1):
        rows = [_cells(worker, detail) for worker in workers]
        widths = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in rows[0]}
        left = width - sum(size + gap for name, size in widths.items() if name != "worker")
        if left >= min(_LEAST_NAME, widths["worker"]):
            break
    widths["worker"] = min(widths["worker"], max(_LEAST_NAME, left))
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for name, size in widths.items():
        justify: Literal["left", "right"] = "left" if name in _TEXT else "right"
        table.add_column(name, justify=justify, width=size, no_wrap=True)
    for row in rows:
        table.add_row(_shortened(row.pop("worker"), widths["worker"]), *row.values())
    return table


def trouble(worker: Worker) -> str:
    """What somebody should look at: why it takes nothing, or what its GPU lacks; or nothing."""
    if worker.sickness:
        return worker.sickness
    if worker.gpu and worker.gpu.change:
        return f"its GPU is {worker.gpu.verdict}: {worker.gpu.reason}; {worker.gpu.change}"
    return ""


def first(workers: Sequence[Worker], most: int) -> list[Worker]:
    """At most so many: those that take nothing, then the busiest; by their names."""

    def need(worker: Worker) -> tuple[bool, float]:
        return worker.state == State.READY, -(worker.audio_seconds_a_second or 0.0)

    return sorted(sorted(workers, key=need)[:most], key=lambda worker: worker.name)


def _cells(worker: Worker, detail: int) -> dict[str, Text]:
    """Its columns by their heads: the more detail, the more of them."""
    held = "-" if worker.in_flight is None else f"{worker.in_flight:,}"
    figures = {
        "held": f"{held}/{worker.capacity:,}" if detail and worker.capacity else held,
        "clips/s": rate(worker.clips_a_second),
        "audio/s": rate(worker.audio_seconds_a_second),
        "latency": milliseconds(worker.latency_ms),
        "tapes": share(worker.tape_fill),
        "device": share(worker.device_share),
    }
    if detail:
        figures["waited"] = milliseconds(worker.queue_ms)
        figures["cores"] = "-" if worker.cores is None else f"{worker.cores:.1f}"
        figures["memory"] = gigabytes(worker.memory_bytes)
    cells = {"worker": cell(worker.name), "state": _state(worker)}
    cells |= {name: Text(figure) for name, figure in figures.items()}
    cells["GPU"] = _gpu(worker, detail)
    if detail == _MOST_DETAIL:
        cells["by"] = cell(f"{worker.dtype} {worker.device}")
    return cells


def _state(worker: Worker) -> Text:
    known = worker.state in set(State)
    text = cell(worker.state or "?")
    text.stylize(_COLOURS.get(State(worker.state), TROUBLE) if known else "")
    return text


def _gpu(worker: Worker, detail: int) -> Text:
    gpu = worker.gpu
    if gpu is None:
        return Text("-")
    told = [share(gpu.utilization)]
    if detail > 1:
        told.append(of_gigabytes(gpu.memory_used_bytes, gpu.memory_total_bytes))
        told += [f"{gpu.watts:.0f} W"] if gpu.watts is not None else []
        told += [f"{gpu.celsius} °C"] if gpu.celsius is not None else []
    if detail:
        told.append(gpu.verdict)
    return cell(" ".join(filter(None, told)))


def _shortened(name: Text, width: int) -> Text:
    if name.cell_len <= width:
        return name
    head = max(1, width - _TAIL - 1)
    return Text(set_cell_size(name.plain, head) + "…" + name.plain[-_TAIL:])
