"""A stage that takes several tasks at once, and what passes it by."""

import threading
from collections import Counter
from typing import Any

import pytest

from storage.errors import NotAudio
from tests.support.pipeline_bench import Bench, MakeBench, code
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.budget import ByteBudget
from worker.pipeline.stage import Stage


def test_a_stage_that_takes_several_gets_what_waits(bench: MakeBench) -> None:
    """As many as it takes, in one call; the stages behind it go on with each, on its thread."""
    gate, calls = threading.Event(), list[Any]()

    def together(values: list[Any]) -> list[Any]:
        calls.append([value[0] for value in values])
        assert gate.wait(TIMEOUT_SECONDS)
        return [[value[0], threading.current_thread().name] for value in values]

    stages = [
        Stage("fetch", lambda value: value, threads=1),
        Stage("resample", together, threads=1, takes=3),
        Stage("normalize", lambda value: [*value, threading.current_thread().name], threads=0),
    ]
    observed = Counter[str]()
    running = bench(stages=stages, observe=lambda stage, _: observed.update([stage]))
    (first,) = running.submit("a", value=[0])
    until(lambda: calls)
    rest = [running.submit(f"{number}", value=[number])[0] for number in range(1, 6)]
    until(lambda: running.pipeline._queues[1].qsize() == len(rest))
    gate.set()
    running.finish()
    assert calls == [[0], [1, 2, 3], [4, 5]]
    assert running.settled.values["4"] == [40, *2 * [10 * "resample-0"]]
    for task in (first, *rest):
        assert list(task.milliseconds) == ["fetch", "resample", "normalize", "infer"]
    # What threads were busy with: a call counts once, however many it took.
    assert (observed["fetch"], observed["resample"], observed["normalize"]) == (6, 3, 6)


def test_a_task_passes_by_what_it_does_not_need(bench: MakeBench) -> None:
    """It stays on its thread, for the stages behind that one too."""
    stages = [
        Stage("fetch", lambda value: value, threads=1),
        Stage(
            "resample",
            lambda values: [[*value, 1] for value in values],
            threads=1,
            takes=3,
            needed=lambda value: value == [7],
        ),
        Stage("normalize", lambda value: [*value, threading.current_thread().name], threads=0),
    ]
    running = bench(stages=stages)
    passing, needing = running.submit("passes", value=[5])[0], running.submit("a", value=[7])[0]
    running.finish()
    assert running.settled.values == {
        "passes": [50, 10 * "fetch-0"],
        "a": [70, 10, 10 * "resample-0"],
    }
    assert "resample" not in passing.milliseconds
    assert "resample" in needing.milliseconds


def test_a_stage_that_takes_several_has_threads() -> None:
    """On those of the stage before, there would be one task at a time."""
    stages = [Stage("fetch", list, threads=1), Stage("resample", list, threads=0, takes=2)]
    with pytest.raises(ValueError, match="threads of its own"):
        Bench(stages=stages)


def test_of_several_taken_at_once_each_has_its_own_end(bench: MakeBench) -> None:
    """An error that a stage gives for one is that one's; what nobody waits for is not given it."""
    gate, calls = threading.Event(), list[list[Any]]()

    def together(values: list[Any]) -> list[Any]:
        calls.append(values)
        assert gate.wait(TIMEOUT_SECONDS)
        return [NotAudio("no") if value == [1] else value for value in values]

    stages = [
        Stage("fetch", lambda value: value, threads=1),
        Stage("resample", together, threads=1, takes=9),
    ]
    running = bench(stages=stages)
    running.submit("first", value=[5])
    until(lambda: calls)
    running.submit("a", value=[1])
    running.submit("b", value=[2])
    (left,) = running.submit("left", value=[3])
    until(lambda: running.pipeline._queues[1].qsize() == 3)
    left.abandoned = True
    gate.set()
    running.finish()
    assert calls[1:] == [[[1], [2]]]
    assert code(running.settled.errors["a"]) == "not_audio"
    assert code(running.settled.errors["left"]) == "deadline_exceeded"
    assert running.settled.errors["b"] is None
    assert running.settled.values["b"] == [20]


@pytest.mark.parametrize("fault", ["raises", "gives too few"])
def test_a_bug_of_a_stage_that_takes_several_ends_those(bench: MakeBench, fault: str) -> None:
    """And nothing else: its thread goes on."""

    def together(values: list[Any]) -> list[Any]:
        if [1] in values:
            return values[9] if fault == "raises" else []
        return values

    stages = [
        Stage("fetch", lambda value: value, threads=1),
        Stage("resample", together, threads=1, takes=2),
    ]
    running = bench(stages=stages)
    running.submit("a", value=[1])
    running.finish()
    running.submit("b", value=[2])
    running.finish()
    assert code(running.settled.errors["a"]) == "internal"
    assert running.settled.values["b"] == [20]


def test_bytes_come_back_after_a_stage_that_takes_several(bench: MakeBench) -> None:
    """As it says of each result, while that waits for its tape."""
    budget = ByteBudget(200, decoded_bytes=50)

    def fetch(value: list[int]) -> list[int]:
        budget.admit(40)
        return value

    resample = Stage(
        "resample", lambda values: values, threads=1, takes=2, holds=lambda value: 10 * value[0]
    )
    running = bench(stages=[Stage("fetch", fetch, threads=1), resample], budget=budget)
    running.network.free.clear()
    tasks = running.submit("a", "bb")
    until(lambda: budget.used_bytes == 30)
    running.network.free.set()
    running.finish()
    assert [task.charged_bytes for task in tasks] == [10, 20]
