"""A device that hangs is noticed, and nothing that only waits or takes long."""

import math
import threading
from typing import Any

from storage.errors import InvalidJob
from tests.support.pipeline_bench import Bench, Clock, MakeBench
from tests.support.polling import TIMEOUT_SECONDS, until


def test_a_device_that_hangs_is_noticed(bench: MakeBench) -> None:
    """Clips on the device and no tape for a minute: stalled, until a tape comes back."""
    clock = Clock()
    running = bench(clock=clock)
    clock.now += 1000
    assert not running.pipeline.stalled()
    running.network.free.clear()
    running.submit("a")
    until(lambda: running.network.tapes)
    assert not running.pipeline.stalled()  # the idle time before does not count
    clock.now += 61
    assert running.pipeline.stalled()
    assert running.pipeline.room() == 0  # jobs that it would take are better off elsewhere
    running.network.free.set()
    running.finish()
    assert not running.pipeline.stalled()
    assert running.pipeline.room() == 100


def test_clips_that_wait_for_company_do_not_look_like_a_hang(bench: MakeBench) -> None:
    """For as long as EMO_MAX_WAIT_SECONDS allows; then the device has a minute for their tape."""
    clock, gate = Clock(), threading.Event()

    def work(value: Any) -> Any:
        if value == [len("late")]:
            assert gate.wait(TIMEOUT_SECONDS)
        return value

    running = bench(work, clock=clock, max_wait_seconds=60.0)
    running.submit("late")
    running.submit("a")
    loop = running.pipeline._infer
    until(lambda: loop.inferring and loop._looked_at == math.inf)  # it has gone to sleep
    clock.now += 61
    assert not running.network.tapes  # the thread sleeps by another clock
    assert not running.pipeline.stalled()
    clock.now += 60
    assert running.pipeline.stalled()  # nobody has sent them
    running.network.free.clear()
    gate.set()
    until(lambda: running.network.tapes)
    assert not running.pipeline.stalled()
    clock.now += 61
    assert running.pipeline.stalled()
    running.network.free.set()
    running.finish()


def test_a_slow_device_has_more_time() -> None:
    """Where a full tape takes 30 s, one is not given up after a minute; a long start is no tape."""
    clock = Clock()

    def warm() -> None:
        clock.now += 600  # compiling and capturing

    slow = Bench(clock=clock)
    slow.network.warming = warm
    slow.network.full_tape_seconds = 30.0
    slow.pipeline.start()
    slow.network.free.clear()
    slow.submit("a")
    until(lambda: slow.network.tapes)
    clock.now += 119
    assert not slow.pipeline.stalled()
    clock.now += 2
    assert slow.pipeline.stalled()
    slow.network.free.set()
    slow.finish()
    slow.end()


def test_tasks_that_wait_to_be_settled_do_not_look_like_a_hang(bench: MakeBench) -> None:
    """While Redis is away for minutes, the device has nothing to do and is healthy."""
    clock = Clock()
    running = bench(clock=clock)
    running.settled.free.clear()
    running.submit("a")
    running.submit("bad", error=InvalidJob("field 'key': missing"))
    until(lambda: running.network.tapes)
    until(lambda: not running.pipeline._infer.inferring)
    clock.now += 1000
    assert not running.pipeline.stalled()
    running.settled.free.set()
    running.finish()
