"""Whether stages get on: what hangs is named, and nothing that only takes long."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.pipeline_bench import Bench, Clock, MakeBench
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.audio.room import Spool
from worker.pipeline.budget import ByteBudget
from worker.pipeline.progress import Progress
from worker.pipeline.stage import Stage
from worker.telemetry.liveness import Liveness

PATIENCE = 90.0


@pytest.fixture
def lock() -> Iterator[Callable[[], object]]:
    """A call that waits for a lock that somebody else has, until the test ends."""
    taken = threading.Lock()
    with taken:
        yield lambda: taken.acquire(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def syscall() -> Iterator[Callable[[], object]]:
    """A call that waits in the kernel, as a mount does that has gone, until the test ends."""
    reading, writing = os.pipe()
    ended = threading.Event()

    def call() -> None:
        os.read(reading, 1)
        ended.set()

    yield call
    os.close(writing)  # which ends the read
    assert ended.wait(TIMEOUT_SECONDS)
    os.close(reading)


def staged(bench: MakeBench, progress: Progress, clock: Clock, call: Callable[[], object]) -> Bench:
    """A pipeline of one stage, on two threads, which hangs for jobs that are called so."""
    entered = threading.Event()

    def work(value: Any) -> Any:
        if value == [len("hangs")]:
            entered.set()
            call()
        return value

    stage = Stage("work", work, threads=2, patience_seconds=PATIENCE)
    running = bench(stages=[stage], clock=clock, progress=progress)
    clock.now += 1e6
    assert running.pipeline.stuck() == []  # nothing to do since it began
    running.submit("hangs")
    assert entered.wait(TIMEOUT_SECONDS)
    return running


@pytest.mark.parametrize("where", ["lock", "syscall"])
def test_a_stage_that_hangs_is_named_and_its_stacks_are_told_once(
    where: str,
    bench: MakeBench,
    progress: Progress,
    clock: Clock,
    request: pytest.FixtureRequest,
) -> None:
    """Wherever it hangs, after its own bound and not before."""
    running = staged(bench, progress, clock, request.getfixturevalue(where))
    liveness = Liveness(running.pipeline.stuck)
    clock.now += PATIENCE
    assert liveness.alive()
    clock.now += 1
    with capture_logs() as logs:
        assert not liveness.alive()
        assert liveness.stuck() == ["work"]
    (told,) = logs
    assert (told["event"], told["stages"]) == ("worker.stuck", ["work"])
    (stack,) = (each for each in told["stacks"].values() if " work: " in str(each))
    assert any("call()" in line for line in stack)
    assert any(name.startswith("MainThread ") for name in told["stacks"])


def test_a_stage_with_other_calls_that_end_is_alive(
    bench: MakeBench, progress: Progress, clock: Clock
) -> None:
    """One call that hangs beside them is its own job's fault; alone it is the stage's."""
    gate, entered = threading.Event(), threading.Event()
    running = staged(bench, progress, clock, lambda: gate.wait(TIMEOUT_SECONDS))
    clock.now += 2 * PATIENCE
    assert running.pipeline.stuck() == ["work"]
    second = threading.Event()

    def work() -> None:
        progress.begin("work", PATIENCE)
        entered.set()
        second.wait(TIMEOUT_SECONDS)
        progress.end()

    other = threading.Thread(target=work)
    other.start()
    assert entered.wait(TIMEOUT_SECONDS)
    assert running.pipeline.stuck() == []
    second.set()
    other.join()
    clock.now += PATIENCE
    assert running.pipeline.stuck() == []  # one has ended within that time
    clock.now += 1
    assert running.pipeline.stuck() == ["work"]
    with capture_logs() as logs:
        liveness = Liveness(running.pipeline.stuck)
        assert not liveness.alive()
        gate.set()
        running.finish()
        assert liveness.alive()
    assert [each["event"] for each in logs] == ["worker.stuck", "worker.moves_again"]


def test_what_takes_long_and_moves_is_alive(
    bench: MakeBench, progress: Progress, clock: Clock
) -> None:
    """A long decode shows its parts, and earns time with them."""
    steps, entered = threading.Semaphore(0), threading.Semaphore(0)

    def decode() -> None:
        for _ in range(3):
            assert steps.acquire(timeout=TIMEOUT_SECONDS)
            progress.moved()
            entered.release()
        assert steps.acquire(timeout=TIMEOUT_SECONDS)
        progress.moved(10 * PATIENCE)
        entered.release()
        assert steps.acquire(timeout=TIMEOUT_SECONDS)

    running = staged(bench, progress, clock, decode)
    for _ in range(3):
        clock.now += PATIENCE - 1
        steps.release()
        assert entered.acquire(timeout=TIMEOUT_SECONDS)
        assert running.pipeline.stuck() == []
    steps.release()
    assert entered.acquire(timeout=TIMEOUT_SECONDS)
    clock.now += 10 * PATIENCE
    assert running.pipeline.stuck() == []
    clock.now += 1
    assert running.pipeline.stuck() == ["work"]
    steps.release()
    running.finish()


def test_waiting_for_memory_is_no_work(clock: Clock, progress: Progress, bench: MakeBench) -> None:
    """What others hold, they will let go; and then the bound counts anew."""
    budget = ByteBudget(10, decoded_bytes=0, progress=progress, clock=clock)
    others = bench().submit("other")[0]
    budget.charge(others)
    budget.admit(10)
    gate = threading.Event()

    def admit() -> None:
        budget.admit(5)
        assert gate.wait(TIMEOUT_SECONDS)

    running = staged(
        lambda **options: bench(**{**options, "budget": budget}), progress, clock, admit
    )
    until(lambda: budget._asking)
    clock.now += 100 * PATIENCE
    assert running.pipeline.stuck() == []
    budget.release(10)
    until(lambda: not budget._asking)
    until(lambda: budget.used_bytes == 5)
    clock.now += PATIENCE - 1
    assert running.pipeline.stuck() == []
    gate.set()
    assert running.pipeline.join(TIMEOUT_SECONDS)


def test_what_waits_for_one_that_hangs_does_not_excuse_it(progress: Progress, clock: Clock) -> None:
    """It holds the memory that they wait for: none of them gets on, ever."""
    waits, gate = threading.Event(), threading.Event()

    def wait() -> None:
        progress.begin("work", PATIENCE)
        progress.waits()
        waits.set()
        gate.wait(TIMEOUT_SECONDS)
        progress.end()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert waits.wait(TIMEOUT_SECONDS)
    clock.now += 100 * PATIENCE
    assert progress.stuck() == []
    progress.begin("work", PATIENCE)  # and hangs
    clock.now += PATIENCE + 1
    assert progress.stuck() == ["work"]
    progress.end()
    gate.set()
    waiting.join()


def test_each_object_that_is_written_is_a_sign_of_life(progress: Progress, clock: Clock) -> None:
    """A job may have many, and a store be slow."""
    put = progress.moving(lambda key, data: len(data))
    progress.begin("settle", PATIENCE)
    for _ in range(5):
        clock.now += PATIENCE
        assert put("key", b"data") == 4
        assert progress.stuck() == []
    clock.now += PATIENCE + 1
    assert progress.stuck() == ["settle"]


def test_waiting_for_the_spool_is_no_work(tmp_path: Path) -> None:
    """It is told before the wait, and with the room for all of it after."""
    told: list[int | None] = []
    spool = Spool(tmp_path, 100)
    spool.told = told.append
    first = spool.reserve(100)
    waiting = threading.Thread(target=lambda: spool.reserve(60).close())
    waiting.start()
    until(lambda: None in told)
    first.close()
    first.release()
    waiting.join(TIMEOUT_SECONDS)
    assert (told[0], told[-1]) == (100, 60)
    assert set(told[1:-1]) == {None}
