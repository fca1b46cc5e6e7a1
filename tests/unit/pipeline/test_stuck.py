"""What of a pipeline is named as stuck, beside the calls of its stages."""

import threading
from typing import Any

import pytest

from tests.support.pipeline_bench import Bench, Clock, MakeBench
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.progress import Progress
from worker.pipeline.stage import Stage


def test_warming_up_is_not_stuck(clock: Clock, progress: Progress) -> None:
    """However long kernels are compiled."""
    warm, warming = threading.Event(), threading.Event()
    cold = Bench(clock=clock, progress=progress)

    def warm_up() -> None:
        warming.set()
        assert warm.wait(TIMEOUT_SECONDS)

    cold.network.warming = warm_up
    starting = threading.Thread(target=cold.pipeline.start)
    starting.start()
    assert warming.wait(TIMEOUT_SECONDS)
    clock.now += 3600
    assert cold.pipeline.stuck() == []
    warm.set()
    starting.join()
    assert cold.pipeline.stuck() == []
    cold.end()


def test_a_network_that_hangs_outside_its_tapes_is_named(
    bench: MakeBench, clock: Clock, progress: Progress
) -> None:
    """Clips arrive, and nobody looks at them."""
    running = bench(clock=clock, progress=progress)
    hangs, entered = threading.Event(), threading.Event()
    segments = running.network.segments

    def cut(job: Any, clip: Any) -> Any:
        entered.set()
        assert hangs.wait(TIMEOUT_SECONDS)
        return segments(job, clip)

    running.network.segments = cut  # type: ignore[method-assign]
    running.submit("a")
    assert entered.wait(TIMEOUT_SECONDS)
    running.submit("bb")
    until(lambda: not running.pipeline._infer._arrived.empty())
    assert running.pipeline.stuck() == []
    clock.now += 61
    assert running.pipeline.stuck() == ["infer"]
    hangs.set()
    running.finish()
    assert running.pipeline.stuck() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_named(bench: MakeBench, clock: Clock, progress: Progress) -> None:
    """What no handler expects, such as an exit that a library calls."""

    def leave(value: Any) -> Any:
        raise SystemExit

    stage = Stage("work", leave, threads=1)
    running = bench(stages=[stage], clock=clock, progress=progress)
    running.submit("a")
    until(lambda: running.pipeline.stuck() == ["work-0"])


def test_settling_that_hangs_is_named(bench: MakeBench, clock: Clock, progress: Progress) -> None:
    """An outage of Redis is waited out with a sign of life; a lock is not."""
    running = bench(clock=clock, progress=progress)
    running.settled.free.clear()
    running.submit("a")
    until(lambda: running.settled.calls)
    clock.now += 61
    assert running.pipeline.stuck() == ["settle"]
    running.settled.free.set()
    running.finish()
