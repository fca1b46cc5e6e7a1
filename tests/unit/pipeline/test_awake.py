"""Patience while all of the process stands still: nothing in it hangs."""

import threading

import pytest

from tests.support.pipeline_bench import Clock, MakeBench
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.awake import AwakeClock
from worker.pipeline.progress import Progress

PATIENCE = 90.0
PAUSE = 3600.0


@pytest.fixture
def clock() -> Clock:
    """The machine's, which goes on while it is paused."""
    return Clock()


@pytest.fixture
def awake(clock: Clock) -> AwakeClock:
    """By that clock; its thread is this one."""
    made = AwakeClock(clock)
    made.look()
    return made


def work(clock: Clock, awake: AwakeClock, seconds: float) -> None:
    """All threads run for so long, the one that looks too."""
    for _ in range(round(seconds)):
        clock.now += 1
        awake.look()


def test_a_pause_of_all_threads_is_nothing_that_hangs(clock: Clock, awake: AwakeClock) -> None:
    """Whoever is the first to run again, and however often it happens; work counts as before."""
    progress = Progress(awake)
    progress.begin("work", PATIENCE)
    for _ in range(3):
        clock.now += PAUSE
        assert progress.stuck() == []  # a probe comes first
        clock.now += PAUSE
        work(clock, awake, 1 + 20)  # the first of them is of the pause
        assert progress.stuck() == []
    work(clock, awake, PATIENCE - 60)
    assert progress.stuck() == []
    work(clock, awake, 1)
    assert progress.stuck() == ["work"]


def test_a_device_is_owed_nothing_for_a_pause(
    clock: Clock, awake: AwakeClock, bench: MakeBench
) -> None:
    """Jobs are read, and leases renewed, as soon as all goes on."""
    running = bench(clock=clock, progress=Progress(awake))
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    clock.now += PAUSE
    assert not running.pipeline.stalled()
    work(clock, awake, 61)
    assert running.pipeline.stalled()
    assert running.pipeline.stuck() == ["infer"]
    running.network.free.set()
    running.finish()


def test_what_nobody_watches_over_is_no_pause(clock: Clock) -> None:
    """Where no thread looks, one that asks now and then says nothing of the others."""
    awake = AwakeClock(clock)
    progress = Progress(awake)
    progress.begin("work", PATIENCE)
    clock.now += PATIENCE + 1
    assert progress.stuck() == ["work"]


def test_a_thread_looks_until_it_is_told_to_end(clock: Clock) -> None:
    """From its start on."""
    before = set(threading.enumerate())
    awake = AwakeClock(clock)
    awake.start()
    until(lambda: awake._seen_at == clock.now)
    clock.now += PAUSE
    until(lambda: awake._seen_at == clock.now)
    assert awake() == clock.now - PAUSE
    awake.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(TIMEOUT_SECONDS)
    clock.now += PAUSE
    assert awake() == clock.now - PAUSE
