"""The live view: what it shows, and that it fits."""

import io
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from rich.console import Console

from producer.top import view
from producer.top.snapshot import Snapshot
from storage.queue.lanes import LaneState, Overview
from storage.queue.recent import Recent, RecentFailure
from storage.queue.workers import Fleet, Gpu, Worker
from storage.terminal.text import json_line
from storage.wire.messages import Lane

NOTHING = {"gpu": None, "stage_shares": {}, "settings": {}}
GPU = Gpu(
    **{"name": "NVIDIA A10", "uuid": "GPU-1", "utilization": 0.93, "memory_used_bytes": 6 * 10**9},
    **{"memory_total_bytes": 24 * 10**9, "watts": 140.0, "limit_watts": 150.0, "mhz": 1500},
    **{"most_mhz": 1695, "celsius": 64, "held_down_by": [], "verdict": "under-fed"},
    reason="the device works on tapes 60% of the time",
    change="raise EMO_DECODE_PROCESSES",
)


def worker(name: str = "host-17-c98c22c4", **told: Any) -> Worker:
    """One that has told that, and nothing else."""
    texts = ("state", "sickness", "host", "version", "model", "revision", "dtype", "device")
    empty: dict[str, Any] = dict.fromkeys((field.name for field in fields(Worker)), None)
    empty |= dict.fromkeys((*texts, "fingerprint"), "")
    return Worker(**{**empty, **NOTHING, "name": name, "silent_seconds": 1.0, **told})


BUSY = worker(
    **{"state": "ready", "in_flight": 151, "done": 1_290_871, "not_done": 1012, "cores": 0.62},
    **{"clips_a_second": 210.41, "audio_seconds_a_second": 12_020.7, "latency_ms": 4120.0},
    **{"tape_fill": 0.93, "device_share": 0.98, "memory_bytes": 1_288_490_188, "gpu": GPU},
    **{"device": "cuda:0", "dtype": "bfloat16"},
)


def snapshot(
    workers: Sequence[Worker] = (BUSY,),
    failures: Sequence[RecentFailure] = (),
    **lanes: Any,
) -> Snapshot:
    """Lanes with a million jobs, those workers, and a second of failures."""
    states = [LaneState(lane, 1_000_000, 256, 12, 2, 4.0, 6.0, []) for lane in Lane]
    overview = Overview(states, 36, 6, delayed_estimated=True, dead_estimated=False)
    recent = Recent(1000, {"done": 900, "failed": 100}, failures)
    return Snapshot(replace(overview, **lanes), Fleet(workers, len(workers), 2000), recent)


def shown(state: Snapshot, width: int = 80, height: int | None = None) -> list[str]:
    """Its lines on a terminal of that width."""
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(view.page(state, width=width, height=height))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_all_figures_are_whole(width: int) -> None:
    """On 80 and 160 columns no heading and no figure is cut, however large."""
    failing = [RecentFailure("storage_unavailable", 12_345, "x" * 200, 1500)]
    lines = shown(snapshot([BUSY, worker("n" * 60, state="store_away")], failing), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for figure in ("1,000,000", "~12", "12,345", "store_away", "4.12 s", "12,021", "98%", "210"):
        assert figure in text
    (headings,) = (line for line in lines if line.startswith("worker "))
    assert "…" not in headings
    assert ("GPU memory" in headings) is (width == 160)
    assert "GPU under-fed, 93% busy, 6.0 GB" in text
    assert "raise EMO_DECODE_PROCESSES" in text.replace("\n", " ")


def test_all_workers_together() -> None:
    """Sums, and means of those that know."""
    rates = snapshot(
        [
            worker("a", clips_a_second=30.0, latency_ms=100.0, tape_fill=0.5),
            worker("b", clips_a_second=10.0, latency_ms=500.0, tape_fill=1.0),
            worker("c", clips_a_second=0.0),
            worker("d"),
        ]
    ).rates
    assert (rates.clips_a_second, rates.latency_ms, rates.tape_fill) == (40, 200, 0.75)
    assert rates.device_share is None


def test_trouble_comes_first_with_its_reason() -> None:
    """Also where only a few rows fit; the others are counted."""
    workers = [worker(f"well-{number:02}", state="ready") for number in range(30)]
    workers.append(worker("zzz", state="sick", sickness="no room in /spool"))
    lines = shown(snapshot(workers), height=24)
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert text.index("zzz") < text.index("well-00")
    assert "zzz: no room in /spool" in text
    assert "more: --once or --json" in text
    assert "well-29" in "\n".join(shown(snapshot(workers)))


def test_pauses_are_told() -> None:
    """Of the lane, and since when."""
    lines = shown(snapshot(paused_seconds={Lane.BULK: 300.0}))
    (bulk,) = (line for line in lines if line.startswith("bulk"))
    assert bulk.split()[-1] == "5m"


def test_an_idle_queue_says_so() -> None:
    """Nobody there, and nothing has happened."""
    state = replace(snapshot([]), recent=Recent(None, {}, []))
    text = "\n".join(shown(state))
    assert "no worker has spoken lately" in text
    assert "no job has ended yet" in text


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    """Names, states, reasons, jobs: as escapes, in the text and in the JSON."""
    evil = "\x1b[31m\u202e"
    state = snapshot(
        [worker(evil, state=evil, sickness=evil, gpu=replace(GPU, verdict=evil))],
        [RecentFailure(evil, 1, evil, 1)],
    )
    for width in (80, 160):
        assert "\x1b" not in "\n".join(shown(state, width)).replace("\\x1b", "")
    assert evil[0] not in json_line(state.told())


def test_an_outage_shows_no_figure() -> None:
    """Only that Redis does not answer, and what it said."""
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(view.away(ConnectionError("refused")))
    assert console.export_text().splitlines() == [
        "Redis does not answer; trying again",
        "refused",
    ]
