"""A stage, and how it is run on a task: within its time, timed, and whatever it raises."""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worker.pipeline.budget import ByteBudget
from worker.pipeline.ending import end, require_wanted
from worker.pipeline.infer_loop import Observe
from worker.pipeline.progress import PATIENCE_SECONDS, Progress
from worker.pipeline.task import Task


@dataclass(frozen=True, slots=True)
class Stage:
    """A callable that takes one task's value to the next, and the threads that run it.

    Without threads it runs on those of the stage before. `isolated` is called instead for a task
    that runs alone, where there is one. Within `patience_seconds` a call ends, or shows by
    `Progress.moved` that it gets on. `holds` is for a stage after which a task holds other memory
    than before, the fetched object for one: the bytes that its result holds.

    One that `takes` more than 1 is the first on its threads, and called with the values of so many
    tasks at most as they come, for a value or an error for each. A task whose value it is not
    `needed` for passes it by, on the thread where it is.
    """

    name: str
    call: Callable[[Any], Any]
    threads: int
    limit_seconds: float | None = None
    patience_seconds: float = PATIENCE_SECONDS
    isolated: Callable[[Any], Any] | None = None
    holds: Callable[[Any], int] | None = None
    takes: int = 1
    needed: Callable[[Any], bool] | None = None


def runs_of(stages: Sequence[Stage]) -> list[list[Stage]]:
    """The stages that share threads, in order. Raises ValueError where the first has none."""
    if not stages[0].threads:
        raise ValueError(f"{stages[0].name}: the first stage needs threads of its own")
    runs: list[list[Stage]] = []
    for stage in stages:
        if stage.threads:
            runs.append([])
        elif stage.takes > 1:
            raise ValueError(f"{stage.name}: a stage that takes several needs threads of its own")
        runs[-1].append(stage)
    return runs


def gathered(source: "queue.SimpleQueue[Task | None]", most: int) -> list[Task]:
    """What waits there, up to `most`; waits for the first. None, which only wakes, ends it."""
    tasks: list[Task] = []
    while len(tasks) < most:
        try:
            task = source.get() if not tasks else source.get_nowait()
        except queue.Empty:
            break
        if task is None:
            break
        tasks.append(task)
    return tasks


class StageRunner:
    """Runs stages on tasks, whose errors it notes. Thread-safe."""

    def __init__(
        self,
        budget: ByteBudget,
        progress: Progress,
        observe: Observe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._progress = progress
        self._observe = observe
        self._clock = clock

    def run(self, stage: Stage, task: Task) -> None:
        """Take a task through a stage."""
        call = stage.isolated if task.alone and stage.isolated else stage.call
        started = self._clock()
        if stage.limit_seconds is not None:
            task.overdue_at = started + stage.limit_seconds
        self._progress.begin(stage.name, stage.patience_seconds)
        self._budget.charge(task)
        try:
            require_wanted(task)
            task.value = call(task.value)
            if stage.holds is not None:
                self._budget.decoded(task, stage.holds(task.value))
        except Exception as error:
            end(task, stage.name, error)
        finally:
            self._budget.charge(None)
            self._progress.end()
        task.overdue_at = None
        self._timed(stage, [task], started)

    def run_together(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Take several through a stage that takes them at once: each waits for all."""
        started = self._clock()
        self._progress.begin(stage.name, stage.patience_seconds)
        wanted = [task for task in tasks if self._is_wanted(stage, task)]
        try:
            made = stage.call([task.value for task in wanted])
            for task, value in zip(wanted, made, strict=True):
                if isinstance(value, Exception):
                    end(task, stage.name, value)
                    continue
                task.value = value
                if stage.holds is not None:
                    self._budget.decoded(task, stage.holds(value))
        except Exception as error:
            for task in wanted:
                end(task, stage.name, error)
        finally:
            self._progress.end()
        self._timed(stage, tasks, started)

    def _is_wanted(self, stage: Stage, task: Task) -> bool:
        try:
            require_wanted(task)
        except Exception as error:
            end(task, stage.name, error)
            return False
        return True

    def _timed(self, stage: Stage, tasks: Sequence[Task], started: float) -> None:
        seconds = self._clock() - started
        for task in tasks:
            task.milliseconds[stage.name] = 1000 * seconds
        self._observe(stage.name, seconds)  # once: of a thread's time, however many shared it
