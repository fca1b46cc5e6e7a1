"""A tape in parts: each segment once, in its order, by as many threads as there are."""

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch

from tests.support.polling import until
from tests.unit.engine.test_parity import NAMES, assert_parity, parity_segments
from tests.unit.model.parity import CHECKPOINTS, clip_of, loaded, noise, segments_of
from worker.engine import engine as engine_module
from worker.engine.engine import Engine
from worker.engine.parts import (
    ComputeThreads,
    SplitTapes,
    cheapest_shares,
    evenest,
    measure_costs,
    part_numbers,
    shares_of,
)
from worker.model.model import Model
from worker.tape import max_tape_slots_cpu

HALVES = {1: 1.2, 2: 1.0}


def split_engine(model: Model, threads: int, costs: dict[int, float]) -> Engine:
    """An engine that runs its tapes in parts."""
    engine = Engine(model, tape_slots=4096)
    engine._tapes = SplitTapes(model, ComputeThreads(threads), costs)
    return engine


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("parts", [1, 2, 3, 12])
def test_a_tape_in_parts_is_the_reference(checkpoint: str, parts: int, tmp_path: Path) -> None:
    """However many parts, every clip gets its own result."""
    engine = split_engine(loaded(checkpoint, tmp_path), parts, {parts: 1.0})
    assert_parity(engine, checkpoint, NAMES, engine.run(parity_segments()))


def test_a_nan_stays_in_its_clip(tmp_path: Path) -> None:
    """Neither those in its part nor those beside it are affected."""
    engine = split_engine(loaded("tiny", tmp_path), 2, {2: 1.0})
    bad = clip_of(noise(16_000))
    bad.samples[9_000] = np.nan  # past normalization, which would refuse it
    names = ["01_yes", "03_excited", "02_calm"]
    first, *others = parity_segments(names)
    outputs = engine.run([first, *segments_of(bad), *others])
    assert outputs.pop(1).error is not None
    assert_parity(engine, "tiny", names, outputs)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_segment_is_in_one_share(parts: int) -> None:
    """And no share is longer than the shortest by more than its last segment."""
    slots = [int(n) for n in np.random.default_rng(parts).integers(11, 700, size=20)]
    shares = shares_of(slots, parts)
    assert sorted(number for share in shares for number in share) == list(range(20))
    loads = [sum(slots[number] for number in share) for share in shares]
    assert max(loads) - min(loads) <= max(slots[share[-1]] for share in shares)


def test_even_segments_are_shared_out() -> None:
    """Two of the same length take two parts, where those are cheaper."""
    assert cheapest_shares([259, 259], HALVES) == [[0], [1]]
    assert cheapest_shares([259, 259], {1: 1.0, 2: 1.2}) == [[0, 1]]


def test_one_long_segment_has_all_threads() -> None:
    """Rather than one thread working while the others have nothing left to do."""
    assert cheapest_shares([1500, 50], HALVES) == [[0, 1]]
    assert cheapest_shares([1500], HALVES) == [[0]]
    assert cheapest_shares([1500, 50], {3: 1.0}) == [[0], [1]]  # no more parts than segments
    assert cheapest_shares([600, 300, 200, 100], HALVES) == [[0], [1, 2, 3]]


def test_a_tape_ends_where_the_threads_have_least_to_wait_for() -> None:
    """Of seven alike on two threads six are run; of those that are as good, the most."""
    assert evenest([259] * 7, HALVES) == 6
    assert evenest([259] * 8, HALVES) == 8
    assert evenest([259] * 7, {1: 1.0}) == 7
    assert evenest([259], HALVES) == 1
    assert evenest([100, 200, 300, 1200], {2: 1.0}) == 4  # the first three are even, but too few
    assert evenest([1500, 10], HALVES) == 2


@pytest.mark.parametrize("threads", [2, 4, 8, 16, 64])
def test_a_tape_has_clips_enough_for_all_threads(threads: int) -> None:
    """As long as it may be, it leaves threads idle for little of its time, on average."""
    random, idle, tape_slots = np.random.default_rng(0), [], max_tape_slots_cpu(threads)
    for _ in range(50):
        slots = np.cumsum(random.integers(75, 600, 64 * threads))  # clips of 1.5 to 12 s
        fitting = np.diff(slots[slots <= tape_slots], prepend=0).tolist()
        tape = fitting[: evenest(fitting, {threads: 1.0})]
        longest = max(sum(tape[n] for n in share) for share in shares_of(tape, threads))
        idle.append(1 - sum(tape) / threads / longest)
    assert np.mean(idle) < 0.07


def test_parts_are_tried_in_powers_of_two() -> None:
    """And one thread each, whatever their number."""
    assert [part_numbers(threads) for threads in (2, 3, 6, 8)] == [
        [1, 2],
        [1, 2, 3],
        [1, 2, 4, 6],
        [1, 2, 4, 8],
    ]


def test_every_number_of_parts_is_measured(tmp_path: Path) -> None:
    """Each costs some time on this machine."""
    costs = measure_costs(loaded("tiny", tmp_path), ComputeThreads(3), 3)
    assert list(costs) == [1, 2, 3]
    assert min(costs.values()) > 0


def test_calls_share_the_threads() -> None:
    """Each runs on a thread of its own, at the same time as the others, with its share of them."""
    threads = ComputeThreads(4)
    meeting = threading.Barrier(2, timeout=30)
    before = torch.get_num_threads()

    def call() -> tuple[str, int]:
        meeting.wait()
        return threading.current_thread().name, torch.get_num_threads()

    assert threads.run([call, call]) == [("compute-0", 2), ("compute-1", 2)]
    assert threads.run([torch.get_num_threads]) == [4]
    assert torch.get_num_threads() == before


def test_more_calls_than_threads_are_refused() -> None:
    """Some would have no thread, and whoever waits for them no end."""
    with pytest.raises(ValueError, match="2 calls on 1 threads"):
        ComputeThreads(1).run([int, int])


def test_threads_that_begin_later_have_as_many_as_ever() -> None:
    """What a part was given is not what the rest of the process has from then on."""
    threads = ComputeThreads(2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threads.run([int, int])
        found: list[int] = []
        late = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        late.start()
        late.join(30)
        assert found == [2]
    finally:
        torch.set_num_threads(before)


def test_an_error_comes_when_all_have_ended() -> None:
    """Whoever takes it may use again what the others were using."""
    threads = ComputeThreads(2)
    failed, ended = threading.Event(), threading.Event()

    def fail() -> None:
        failed.set()
        raise MemoryError("no room")

    def go_on() -> None:
        assert failed.wait(30)
        ended.set()

    with pytest.raises(MemoryError, match="no room"):
        threads.run([fail, go_on])
    assert ended.is_set()
    assert threads.run([lambda: 1, lambda: 2]) == [1, 2]


def test_nothing_keeps_what_a_failed_call_held() -> None:
    """A tape that ran out of memory must not go on holding its own."""
    threads = ComputeThreads(1)
    held: list[weakref.ref[torch.Tensor]] = []

    def fail() -> None:
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise MemoryError

    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            threads.run([fail])
        until(lambda: held[0]() is None)
    finally:
        gc.enable()


def test_the_threads_end_with_their_owner() -> None:
    """An engine that is let go leaves none behind."""
    threads = ComputeThreads(1)
    (thread,) = threads.run([threading.current_thread])
    del threads
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def two_threads(tmp_path: Path) -> Iterator[Model]:
    """A model that two threads run."""
    model = loaded("tiny", tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield model
    torch.set_num_threads(before)


def test_a_warm_engine_runs_in_parts(two_threads: Model) -> None:
    """Where it has several threads, it measures how many parts are cheapest, and stays exact."""
    engine = Engine(two_threads, tape_slots=4096)
    engine.warm_up()
    assert isinstance(engine._tapes, SplitTapes)
    assert_parity(engine, "tiny", NAMES, engine.run(parity_segments()))


def test_a_worker_starts_where_parts_cannot_be_measured(
    two_threads: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs tapes whole, and says so."""
    monkeypatch.setattr(engine_module, "measure_costs", lambda *_: torch.empty(2**45))
    engine = Engine(two_threads, tape_slots=4096)
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    assert "engine.not_tuned" in [entry["event"] for entry in logs]
    assert_parity(engine, "tiny", NAMES, engine.run(parity_segments()))
