"""`top`: what is made of a look, and that it fits the terminal."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError
from rich.console import Console

from producer.client import Fleet, Gpu, Worker
from producer.commands.top import _follow, _looks, _watch
from producer.top.look import Looking, Snapshot, causes, disagreements, together
from producer.top.screen import away, screen
from storage.queue.healing import Healed
from storage.queue.lanes import LaneState, Overview
from storage.queue.recent import End
from storage.wire.messages import Lane

SAYS: dict[str, Any] = {
    **{"name": "NVIDIA A10", "uuid": "GPU-1", "utilization": 0.87},
    **{"memory_used_bytes": 6_000_000_000, "memory_total_bytes": 24_000_000_000},
    **{"watts": 141.5, "limit_watts": 150.0, "mhz": 1500, "most_mhz": 1695, "celsius": 61},
    **{"held_down_by": (), "verdict": "under-fed", "reason": "it waits", "change": "feed it"},
}
GPU = Gpu(**SAYS)


def worker(name: str = "host-17-c98c22c4", **told: Any) -> Worker:
    """One that works as hard as figures can be wide."""
    says: dict[str, Any] = {
        **{"name": name, "silent_seconds": 1.0, "state": "ready", "sickness": ""},
        **{"host": "host", "pid": 17, "version": "0.1.0", "model": "m", "revision": "r"},
        **{"dtype": "float16", "device": "cuda:0", "started_at_ms": 1, "told_at_ms": 2},
        **{"capacity": 1024, "in_flight": 1024, "done": 9, "not_done": 1},
        **{"period_seconds": 10.0, "clips_a_second": 2210.4},
        **{"audio_seconds_a_second": 20_020.7, "latency_ms": 412.1, "queue_ms": 18.3},
        **{"tape_fill": 0.93, "device_share": 0.98, "cores": 11.6},
        **{"memory_bytes": 13_288_490_188, "stage_shares": {}, "fingerprint": "aa"},
        **{"settings": {"EMO_WINDOW_SECONDS": "30.0"}, "gpu": GPU},
        **told,
    }
    return Worker(**says)


SILENT: dict[str, Any] = dict.fromkeys(
    (
        *("in_flight", "clips_a_second", "audio_seconds_a_second", "latency_ms", "queue_ms"),
        *("tape_fill", "device_share", "cores", "memory_bytes", "capacity", "gpu"),
    )
)


def end(job: str, status: str = "done", code: str = "", ago_seconds: float = 1.0) -> End:
    """The end of a job."""
    return End(job, status, code, ago_seconds)


def snapshot(
    workers: Sequence[Worker],
    ends: Sequence[End] = (),
    waiting: Mapping[str, Sequence[str]] | None = None,
    **lanes: Any,
) -> Snapshot:
    """A look at lanes that are full, and at those workers."""
    full = [LaneState(lane, 1_000_000, 1024, 4096, 99, 9900.0, 60.0, ()) for lane in Lane]
    overview = Overview(
        full, delayed=12_000, dead=300, delayed_estimated=True, dead_estimated=False, **lanes
    )
    return Snapshot(
        overview,
        Fleet(workers, len(workers), 1),
        together(workers),
        disagreements(workers),
        causes(ends, waiting or {}),
        len(ends),
        90.0,
    )


def shown(found: Snapshot, width: int, height: int | None = None, **more: Any) -> list[str]:
    """Its lines, on a terminal of that size."""
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(screen(found, width=width, height=height, **more))
    return cast(io.StringIO, console.file).getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("width", [80, 100, 120, 150, 160, 240])
@pytest.mark.parametrize("state", ["ready", "store_away"])
def test_no_figure_is_cut_at_any_width(width: int, state: str) -> None:
    """Names of workers give way, and stay different; the lines fit."""
    names = [f"a-rather-long-name-of-a-host-17-c98c22c{number}" for number in range(3)]
    lines = shown(snapshot([worker(name, state=state) for name in names]), width)
    assert all(len(line) <= width for line in lines)
    (head,) = (number for number, line in enumerate(lines) if line.startswith("worker "))
    rows = lines[head : head + 4]
    assert "clips/s" in rows[0]
    assert "audio/s" in rows[0]
    for row, last in zip(rows[1:], "012", strict=True):
        name, *figures = row.split()
        assert name.endswith(last)
        assert figures[0] == state
        for figure in ("1,024", "2,210", "20,021", "412", "93%", "98%", "87%"):
            assert any(each.startswith(figure) for each in figures), figure
        assert "…" not in " ".join(figures)
    assert any("1,000,000" in line and "9s" not in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (160, 50)])
def test_a_crowd_fits_the_terminal(width: int, height: int) -> None:
    """The sick are among those that are shown, and the others are counted."""
    crowd = [worker(f"host-{number:03}", audio_seconds_a_second=number) for number in range(300)]
    crowd[7] = worker("host-007", state="sick", sickness="no space left on device", gpu=None)
    ends = [end(f"job-{number}", "failed", f"code_{number % 9}") for number in range(900)]
    lines = shown(snapshot(crowd, ends), width, height)
    assert len(lines) <= height
    assert any(line.startswith("host-007") for line in lines)
    assert any("more workers: --json has all" in line for line in lines)
    assert any("more causes" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 119, 120, 160])
@pytest.mark.parametrize("letters", [32, 36, 128])
def test_a_cause_is_told_however_long_the_ids_of_its_jobs_are(width: int, letters: int) -> None:
    """Keys act on it: ids give way, and neither its name nor a figure does."""
    ends = [end(f"{number:0{letters}}", "dead", "not_audio") for number in range(1234)]
    hostile = "no code of ours " * 99
    ends.append(end("x", "failed", hostile))
    lines = shown(snapshot([], ends, {"not_audio": ["y"] * 567}), width)
    (row,) = (line for line in lines if line.startswith("not_audio "))
    assert "1,234 1,234 567 1s ago 0" in " ".join(row.split())
    (other,) = (line for line in lines if line.startswith(hostile[:9]))
    assert "1 0 0 1s ago x" in " ".join(other.split())


def test_lanes_are_told_with_what_ails_them() -> None:
    """Paused lanes are marked without colour, estimates too, and streams that were put right."""
    healed = [Healed("emo:jobs", "begun anew", 1)]
    found = snapshot([], paused_seconds={Lane.BULK: 200.0}, healed=healed)
    lines = shown(found, 80)
    assert any(line.startswith("bulk (paused)") and "~4,096" in line for line in lines)
    assert any("bulk: paused for 3m; `lanes resume bulk` goes on" in line for line in lines)
    assert any("emo:jobs: begun anew" in line for line in lines)
    assert "no worker has said anything lately" in lines


def test_what_is_not_known_is_a_dash() -> None:
    """A worker that has told no figures yet is shown, and one in a state of a later release."""
    lines = shown(snapshot([worker("new", state="resting", **SILENT)]), 160)
    (row,) = (line.split() for line in lines if line.startswith("new "))
    assert row[:2] == ["new", "resting"]
    assert "-" not in lines[0]
    assert set(row[2:-2]) == {"-"}


def test_a_worker_that_is_silent_is_said_to_be() -> None:
    """It may be dead, and counts as none that takes jobs."""
    lines = shown(snapshot([worker("dead", state="silent", sickness="no word", **SILENT)]), 80)
    assert lines[0].startswith("0 of 1 workers take jobs")
    assert "dead: no word" in lines


def test_workers_together() -> None:
    """Rates add up; times are means of the jobs, tapes of the time that they took."""
    busy = worker(clips_a_second=30.0, latency_ms=100.0, tape_fill=0.9, device_share=0.6)
    slow = worker(clips_a_second=10.0, latency_ms=500.0, tape_fill=0.5, device_share=0.2)
    every = together([busy, slow, worker("new", **SILENT)])
    assert every.clips_a_second == 40.0
    assert every.audio_seconds_a_second == pytest.approx(40_041.4)
    assert every.latency_ms == pytest.approx(200.0)
    assert every.tape_fill == pytest.approx(0.8)
    assert every.device_share == pytest.approx(0.4)
    nothing = together([])
    assert (nothing.in_flight, nothing.latency_ms, nothing.device_share) == (0, None, None)
    assert together([worker(clips_a_second=0.0, latency_ms=7.0)]).latency_ms == 7.0


def test_disagreements_name_what_differs() -> None:
    """Model, dtype, release, and each setting; nothing where it is not told by both."""
    one = worker()
    assert disagreements([one, worker("two"), worker("old", version="", settings={})]) == []
    other = worker(dtype="float32", settings={"EMO_WINDOW_SECONDS": "20.0"}, fingerprint="bb")
    assert disagreements([one, one, other]) == [
        "dtype: float16 (2), float32 (1)",
        "EMO_WINDOW_SECONDS: 30.0 (2), 20.0 (1)",
    ]


def test_causes_are_counted_by_code() -> None:
    """The most frequent first, with the newest jobs; cancelled ones are none.

    What waits for a retry is no end, and told beside them.
    """
    ends = [
        *(end("a", "failed", "not_audio", 2), end("b"), end("c", "dead", "internal", 3)),
        *(end("d", "failed", "not_audio", 4), end("e", "expired"), end("f", "cancelled")),
    ]
    first, *others = causes(ends, {"not_audio": ["g"], "stage_timeout": ["h", "i"]})
    assert (first.code, first.jobs, first.newest, first.ago_seconds) == (
        *("not_audio", 2, ["a", "d"], 2),
    )
    assert (first.dead, first.waiting) == (0, 1)
    assert [(each.code, each.dead, each.waiting) for each in others] == [
        *(("internal", 1, 0), ("expired", 0, 0), ("stage_timeout", 0, 2)),
    ]
    assert (others[-1].jobs, others[-1].newest, others[-1].ago_seconds) == (0, ["h", "i"], None)


class _Looking:
    """Looks that come out as they are told, and then no more."""

    def __init__(self, *came: Snapshot | Exception) -> None:
        self._came = iter(came)

    def look(self) -> Snapshot:
        """The next."""
        try:
            found = next(self._came)
        except StopIteration:
            raise KeyboardInterrupt from None
        if isinstance(found, Exception):
            raise found
        return found


def looking(*came: Snapshot | Exception) -> Looking:
    """The same, in its place."""
    return cast(Looking, _Looking(*came))


def test_an_outage_is_shown_without_old_figures() -> None:
    """And over as soon as Redis answers; what waiting does not cure ends it."""
    found, gone, slept = snapshot([]), RedisConnectionError("gone"), list[float]()
    looks: Iterator[Any] = _looks(looking(found, gone, found), 3.0, slept.append)
    assert list(islice(looks, 3)) == [found, gone, found]
    assert slept == [3.0, 3.0]
    console = Console(file=io.StringIO(), width=80)
    console.print(away(gone))
    said = cast(io.StringIO, console.file).getvalue()
    assert said.startswith("Redis does not answer")
    assert "gone" in said
    assert "clips/s" not in said
    with pytest.raises(NoPermissionError):
        next(_looks(looking(NoPermissionError("no")), 3.0))


def test_where_it_is_no_terminal_an_outage_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, among snapshots; and once more when it happens again."""
    no_sleep: Callable[[float], None] = lambda seconds: None  # noqa: E731 (for a keyword)
    monkeypatch.setattr("producer.commands.top.time.sleep", no_sleep)
    found, gone = snapshot([]), RedisConnectionError("gone")
    console = Console(width=80)
    with pytest.raises(KeyboardInterrupt):
        _follow(looking(found, gone, gone, found, gone), console, 2.0, as_json=True)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert err.splitlines() == ["EMO_REDIS_URL: gone; it is asked again every 2 s"] * 2


def test_without_a_stdin_it_shows_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a shell has closed it: there are no keys."""
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("producer.commands.top.time.sleep", lambda seconds: None)
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True)
    with pytest.raises(KeyboardInterrupt):
        _watch(looking(snapshot([])), console, 2.0, None)
    assert "no worker has said anything lately" in cast(io.StringIO, console.file).getvalue()
