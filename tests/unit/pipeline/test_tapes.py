"""The pipeline: which clips go on a tape together, and when it is sent and collected."""

import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.support.pipeline_bench import Bench, MakeBench, code
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.stage import Stage


def test_a_full_queue_ends_up_on_one_tape(bench: MakeBench) -> None:
    """What arrives while the device is busy is run together afterwards, not in many small tapes."""
    running = bench(max_wait_seconds=0.0)
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    running.submit(*[f"{number:02}" for number in range(60)])
    until(lambda: running.pipeline._infer._arrived.qsize() == 60)
    running.network.free.set()
    running.finish()
    assert running.network.tapes == [[1], [2] * 60]
    assert len(running.settled.values) == 61


def test_clips_wait_for_company(bench: MakeBench) -> None:
    """While a clip is on its way, those that are ready wait; then all go on one tape."""
    gate = threading.Event()

    def work(value: Any) -> Any:
        assert value != [4] or gate.wait(TIMEOUT_SECONDS)
        return value

    running = bench(work)
    running.submit("slow", "a", "b", "c")
    until(lambda: running.pipeline._infer.inferring == 3)
    assert running.network.tapes == []
    gate.set()
    running.finish()
    assert [sorted(tape) for tape in running.network.tapes] == [[1, 1, 1, 4]]


def test_a_clip_waits_no_longer_than_it_may(bench: MakeBench) -> None:
    """Given company that does not come, the tape goes when the oldest has waited long enough."""
    gate = threading.Event()

    def work(value: Any) -> Any:
        assert value != [4] or gate.wait(TIMEOUT_SECONDS)
        return value

    running = bench(work, max_wait_seconds=0.02)
    running.submit("slow", "a")
    until(lambda: "a" in running.settled.values)
    gate.set()
    running.finish()
    assert running.network.tapes == [[1], [4]]


def test_a_full_tape_is_sent_behind_the_one_on_the_device(bench: MakeBench) -> None:
    """The device goes from one tape to the next; not to a third before the first came back."""
    running = bench(tape_slots=2)
    running.network.overlaps = True
    running.network.free.clear()
    running.submit("a", "b")
    until(lambda: running.network.tapes == [[1, 1]])
    running.submit("c", "d", "e", "f")
    until(lambda: len(running.network.tapes) == 2)
    until(
        lambda: running.pipeline._infer._arrived.qsize() + len(running.pipeline._infer._former) == 2
    )
    assert running.network.tapes == [[1, 1], [1, 1]]
    running.network.free.set()
    running.finish()
    assert running.network.tapes == [[1, 1]] * 3


def test_behind_a_running_tape_a_partly_full_one_waits(bench: MakeBench) -> None:
    """A busy device would gain nothing from it, and later clips would miss it."""
    running = bench(tape_slots=3, max_wait_seconds=0.0)
    running.network.overlaps = True
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    running.submit("b")
    until(lambda: len(running.pipeline._infer._former) == 1)
    running.submit("c")
    until(lambda: len(running.pipeline._infer._former) == 2)
    assert running.network.tapes == [[1]]
    running.network.free.set()
    running.finish()
    assert running.network.tapes == [[1], [1, 1]]


def test_the_next_tape_is_sent_before_the_last_one_is_looked_at(bench: MakeBench) -> None:
    """While clips are pooled and written down, the device works; it does not wait for that."""
    running = bench(max_wait_seconds=0.0)
    running.network.overlaps = True
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    running.submit("bb")
    until(lambda: len(running.pipeline._infer._former) == 1)
    running.network.free.set()
    running.finish()
    assert running.network.calls == ["start [1]", "start [2]", "finish [1]", "finish [2]"]


def test_a_tape_that_was_run_when_it_was_sent_is_settled_at_once(bench: MakeBench) -> None:
    """On a CPU, clips that are done do not wait for the tape behind them."""
    running = bench(tape_slots=1, stages=[Stage("work", lambda value: value, threads=1)])
    running.submit("a", "bb", "ccc")
    running.finish()
    assert running.network.calls == [
        f"{verb} [{number}]" for number in (1, 2, 3) for verb in ("start", "finish")
    ]


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("ends", ["lost", "expired"])
def test_no_tape_is_spent_on_what_nobody_waits_for(
    bench: MakeBench, ends: str, overlaps: bool
) -> None:
    """An hour of audio that is cancelled on its way ends with what is on the device."""
    running = bench(tape_slots=4)
    running.network.overlaps = overlaps
    running.network.free.clear()
    (long,) = running.submit("long", value=list(range(1, 101)))
    sent = 2 if overlaps else 1
    until(lambda: len(running.network.tapes) == sent)
    running.submit("a")
    if ends == "lost":
        long.abandoned = True
    else:
        long.job = replace(long.job, deadline_ms=1)
    running.network.free.set()
    running.finish()
    assert [len(tape) for tape in running.network.tapes] == [4] * sent + [1]
    assert code(running.settled.errors["long"]) == "deadline_exceeded"
    assert running.settled.values["a"] == [10]


def test_a_fault_of_the_infer_thread_ends_the_worker() -> None:
    """Better than a worker that takes jobs which nothing runs."""
    lost = threading.Event()
    broken = Bench(device_lost=lost.set)
    broken.pipeline._infer._former._slots = None  # type: ignore[assignment]  # a bug, wherever it may be
    broken.pipeline.start()
    broken.submit("a")
    assert lost.wait(TIMEOUT_SECONDS)
    broken.end()
