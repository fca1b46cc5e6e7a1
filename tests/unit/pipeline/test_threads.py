"""The pipeline: how tasks flow, wait, and end with it."""

import threading
from typing import Any

import pytest

from storage.errors import InvalidJob
from tests.support.pipeline_bench import Bench, Clock, MakeBench
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.stage import Stage
from worker.pipeline.threads import SETTLE_BATCH


def test_stages_come_in_order(bench: MakeBench) -> None:
    """Each stage gets what the one before made, then the network, then settle."""
    stages = [
        Stage("fetch", lambda value: [*value, 1], threads=2),
        Stage("decode", lambda value: [*value, 2], threads=2),
        Stage("normalize", lambda value: [*value, 3], threads=1),
    ]
    running = bench(stages=stages)
    (task,) = running.submit("a", value=[])
    running.finish()
    assert running.settled.values == {"a": [10, 20, 30]}
    assert running.settled.errors == {"a": None}
    assert list(task.milliseconds) == ["fetch", "decode", "normalize", "infer"]
    assert task.batch_clips == 1


def test_a_stage_without_threads_runs_where_the_one_before_did(bench: MakeBench) -> None:
    """It is a stage all the same: timed, and skipped by a task that has ended before it."""

    def decode(value: Any) -> Any:
        if value == [3]:
            raise InvalidJob("no audio")
        return [*value, threading.current_thread().name]

    stages = [
        Stage("fetch", lambda value: value, threads=2),
        Stage("decode", decode, threads=1),
        Stage("normalize", lambda value: [*decode(value)[1:], 1], threads=0),
    ]
    running = bench(stages=stages)
    running.network.slots = lambda segment: 1  # type: ignore[method-assign]
    task, failed = running.submit("a", "bad")
    running.finish()
    assert list(task.milliseconds) == ["fetch", "decode", "normalize", "infer"]
    assert list(failed.milliseconds) == ["fetch", "decode"]
    assert running.settled.values["a"][:2] == 2 * [10 * "decode-0"]


def test_the_first_stage_has_threads(bench: MakeBench) -> None:
    """There would be nobody to run it."""
    with pytest.raises(ValueError, match="first stage"):
        Bench(stages=[Stage("fetch", lambda value: value, threads=0)])


def test_a_task_that_runs_alone_is_isolated(bench: MakeBench) -> None:
    """A stage that has another way for it goes that way; the others know no difference."""
    stages = [
        Stage("fetch", lambda value: [*value, 1], threads=1),
        Stage("decode", lambda value: [*value, 2], threads=1, isolated=lambda value: [*value, 3]),
    ]
    running = bench(stages=stages)
    running.submit("suspect", value=[], alone=True)
    running.submit("other", value=[])
    running.finish()
    assert running.settled.values == {"suspect": [10, 30], "other": [10, 20]}


def test_the_windows_of_a_long_clip_come_back_in_order(bench: MakeBench) -> None:
    """A clip larger than the tape is run in pieces and concluded once."""
    running = bench(tape_slots=4)
    running.submit("long", value=list(range(11)))
    running.submit("a")
    running.finish()
    assert running.settled.values["long"] == [10 * n for n in range(11)]
    assert running.settled.values["a"] == [10]
    assert all(len(tape) <= 4 for tape in running.network.tapes)


def test_capacity_is_respected(bench: MakeBench) -> None:
    """A full pipeline has no room and takes nothing, until something is settled."""
    running = bench(capacity=3)
    running.settled.free.clear()
    running.submit("a", "bb", "ccc")
    assert running.pipeline.room() == 0
    with pytest.raises(RuntimeError, match="full"):
        running.submit("dddd")
    assert running.pipeline.in_flight == 3
    running.settled.free.set()
    running.pipeline.wait_for_room(3, TIMEOUT_SECONDS)
    assert running.pipeline.room() == 3
    running.submit("dddd")
    running.finish()
    assert sorted(running.settled.values) == ["a", "bb", "ccc", "dddd"]


def test_waiting_for_room_ends_with_the_time_out(bench: MakeBench) -> None:
    """Whoever waits for room gets to look after other things."""
    running = bench(capacity=1)
    running.settled.free.clear()
    running.submit("a")
    running.pipeline.wait_for_room(1, 0.001)
    assert running.pipeline.room() == 0


def test_a_closed_pipeline_drains(bench: MakeBench) -> None:
    """After close nothing more is taken, and what is in it comes to its end."""
    running = bench()
    running.settled.free.clear()
    running.submit("a")
    running.pipeline.close()
    assert running.pipeline.room() == 0
    with pytest.raises(RuntimeError):
        running.submit("bb")
    assert not running.pipeline.join(0.001)
    running.settled.free.set()
    running.finish()
    assert running.settled.values == {"a": [10]}


def test_terminate_abandons_what_is_in_flight(bench: MakeBench) -> None:
    """Threads end after the call they are in; nothing is settled any more."""
    gate = threading.Event()
    calls: list[Any] = []

    def work(value: Any) -> Any:
        calls.append(value)
        assert gate.wait(TIMEOUT_SECONDS)
        return value

    running = bench(stages=[Stage("work", work, threads=1)])
    running.submit("a", "bb", "ccc")
    until(lambda: calls)

    def open_late() -> None:
        until(lambda: running.pipeline._terminated)
        gate.set()

    threading.Thread(target=open_late).start()
    running.pipeline.terminate()
    until(lambda: not running.running_threads())
    assert calls == [[1]]
    assert running.settled.values == {}


def test_terminate_does_not_wait_for_each_stuck_thread(bench: MakeBench) -> None:
    """A hundred fetches that hang cost a drain one second, not a hundred."""
    gate = threading.Event()
    stage = Stage("fetch", lambda value: gate.wait(), threads=100)
    running = bench(stages=[stage])
    running.submit(*[f"{number}" for number in range(100)])
    ended = threading.Event()

    def terminate() -> None:
        running.pipeline.terminate()
        ended.set()

    threading.Thread(target=terminate, daemon=True).start()
    in_time = ended.wait(TIMEOUT_SECONDS)
    gate.set()
    assert in_time


def test_terminate_wakes_those_who_wait_for_bytes(bench: MakeBench) -> None:
    """A thread that waits for room in the budget does not outlive the pipeline."""

    def fetch(size: int) -> None:
        running.budget.admit(size)

    running = bench(fetch)
    running.budget.release(-1000)
    (task,) = running.submit("a", value=10)
    until(lambda: running.budget._asking)
    running.pipeline.terminate()
    until(lambda: task.error)
    assert str(task.error) == "the worker is stopping"


def test_what_waits_for_bytes_at_the_end_is_not_settled(bench: MakeBench) -> None:
    """Settle would count a try: it stays held, to be given back with all the rest."""

    def fetch(size: int) -> None:
        running.budget.admit(size)

    running = bench(fetch)
    running.budget.release(-1000)
    (task,) = running.submit("a", value=10)
    until(lambda: running.budget._asking)
    close = running.budget.close

    def close_slowly() -> None:
        close()
        until(lambda: not running.pipeline._before_infer)  # the fetch has failed

    running.budget.close = close_slowly  # type: ignore[method-assign]  # a busy machine
    running.pipeline.terminate()
    until(lambda: not running.running_threads())
    assert task.error
    assert running.settled.errors == {}


def test_what_piled_up_is_settled_in_batches(bench: MakeBench) -> None:
    """One round trip serves many, but a batch has its limit."""
    running = bench(capacity=200)
    running.settled.free.clear()
    running.submit("a")
    until(lambda: running.settled.calls)
    running.submit(*[f"{number:03}" for number in range(SETTLE_BATCH + 10)])
    until(lambda: running.pipeline._to_settle.qsize() >= SETTLE_BATCH + 9)
    running.settled.free.set()
    running.finish()
    assert max(running.settled.batches) == SETTLE_BATCH
    assert sum(running.settled.batches) == SETTLE_BATCH + 11


def test_a_full_budget_holds_the_fetches_back(bench: MakeBench) -> None:
    """No more bytes are in flight than allowed, and in the end everything was done."""
    most = 0

    def fetch(value: Any) -> Any:
        nonlocal most
        running.budget.admit(400)
        most = max(most, running.budget.used_bytes)
        return value

    running = bench(stages=[Stage("fetch", fetch, threads=8)], max_wait_seconds=0.0)
    running.submit(*[f"{number:02}" for number in range(30)])
    running.finish()
    assert most == 800
    assert len(running.settled.values) == 30


def test_a_task_is_overdue_only_while_a_stage_works_on_it(bench: MakeBench) -> None:
    """Past the stage's limit it is; waiting in a queue never makes it so."""
    clock, gate = Clock(), threading.Event()
    started = threading.Event()

    def work(value: Any) -> Any:
        started.set()
        assert gate.wait(TIMEOUT_SECONDS)
        return value

    stage = Stage("work", work, threads=1, limit_seconds=60.0)
    running = bench(stages=[stage], clock=clock)
    working, queued = running.submit("a", "bb")
    assert started.wait(TIMEOUT_SECONDS)
    assert not working.overdue(clock.now + 60)
    assert working.overdue(clock.now + 61)
    assert not queued.overdue(clock.now + 1e9)
    gate.set()
    running.finish()
    assert not working.overdue(clock.now + 1e9)


def test_the_times_of_a_task_are_told(bench: MakeBench) -> None:
    """Stage times come from the clock; every stage and tape is observed once."""
    clock, observed = Clock(), []

    def work(value: Any) -> Any:
        clock.now += 0.25
        return value

    running = bench(work, clock=clock, observe=lambda name, seconds: observed.append(name))
    (task,) = running.submit("a")
    running.finish()
    assert task.milliseconds == {"work": 250.0, "infer": 0.0}
    assert observed == ["work", "infer"]
