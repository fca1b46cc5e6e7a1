"""The pipeline: owns every stage thread, and what joins them. Tasks flow one way, to `settle`.

Its verbs are `start`, `submit`, `close`, `join` and `terminate`; the stages are plain callables
that know nothing of threads.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from worker.errors import DeviceLost
from worker.pipeline.budget import ByteBudget
from worker.pipeline.infer_loop import BatchStage, InferLoop, Observe
from worker.pipeline.progress import PATIENCE_SECONDS, Progress
from worker.pipeline.stage import Stage, StageRunner, gathered, runs_of
from worker.pipeline.task import Task

SETTLE_BATCH = 64
_TERMINATE_SECONDS = 1.0

log = structlog.get_logger(__name__)

SettleTasks = Callable[[Sequence[Task]], None]


class Pipeline:
    """`stages` in order, then `infer` in batches, then `settle`.

    At most `capacity` tasks are in it, so that its queues need no bounds and handing on never
    blocks; `budget` bounds their bytes. Every task that is submitted comes to `settle` exactly
    once, with a value or an error, unless the pipeline is terminated or its device is lost. Of the
    latter `device_lost` is told, on the infer thread.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        infer: BatchStage,
        *,
        settle: SettleTasks,
        capacity: int,
        budget: ByteBudget,
        max_wait_seconds: float,
        settle_threads: int = 2,
        settle_patience_seconds: float = PATIENCE_SECONDS,
        progress: Progress | None = None,
        observe: Observe = lambda stage, seconds: None,
        device_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity = capacity
        self._settle = settle
        self._budget = budget
        self._device_lost = device_lost
        self._progress = progress or Progress(clock)
        self._runner = StageRunner(budget, self._progress, observe, clock)
        self._settle_patience_seconds = settle_patience_seconds
        self._changed = threading.Condition()
        self._in_flight = 0
        self._before_infer = 0
        self._closed = False
        self._terminated = False
        self._warm = queue.SimpleQueue[Exception | None]()
        # None only wakes whoever waits.
        runs = runs_of(stages)
        self._queues = [queue.SimpleQueue[Task | None]() for _ in runs]
        self._to_settle = queue.SimpleQueue[Task | None]()
        self._infer = InferLoop(
            infer,
            max_wait_seconds=max_wait_seconds,
            more_coming=lambda: self._before_infer > 0,
            admitted=self._admitted,
            hand_on=self._hand_on,
            observe=observe,
            clock=self._progress.clock,
        )
        self._threads: list[threading.Thread] = []
        sink = self._infer.submit
        for run, source in list(zip(runs, self._queues, strict=True))[::-1]:
            for number in range(run[0].threads):
                self._add_thread(f"{run[0].name}-{number}", self._run_stages, run, source, sink)
            sink = partial(self._to_run, run, source, sink)
        self._add_thread("infer", self._run_infer)
        for number in range(settle_threads):
            self._add_thread(f"settle-{number}", self._run_settle)

    def start(self) -> None:
        """Warm up and start all threads. Raises what the warm-up raises."""
        for thread in self._threads:
            thread.start()
        failure = self._warm.get()
        if failure is not None:
            raise failure

    @property
    def in_flight(self) -> int:
        """Tasks submitted and not yet settled."""
        return self._in_flight

    def room(self) -> int:
        """How many more tasks may be submitted now; none to a device that hangs."""
        return 0 if self._closed or self.stalled() else self.capacity - self._in_flight

    def wait_for_room(self, tasks: int, timeout_seconds: float | None = None) -> bool:
        """Wait until `tasks` more may be submitted; False if time is up, or it is closed, first."""
        with self._changed:
            self._changed.wait_for(lambda: self.room() >= tasks or self._closed, timeout_seconds)
            return self.room() >= tasks

    def submit(self, task: Task) -> None:
        """Take a task in; one with an error goes straight to settle. The caller minds the room."""
        with self._changed:
            if self._closed or self._in_flight >= self.capacity:
                raise RuntimeError("submitted to a pipeline that is full or closed")
            self._in_flight += 1
            self._before_infer += task.error is None
        (self._to_settle if task.error else self._queues[0]).put(task)

    def close(self) -> None:
        """Take nothing in any more. Does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait until everything is settled; False where the time-out came first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, timeout_seconds)

    def terminate(self) -> None:
        """Stop the threads as soon as each has ended its call; what is in flight is abandoned.

        Waits for them, but not long: a call may take a minute, and they are daemons.
        """
        self.close()
        self._terminated = True
        for waiting in [*self._queues, self._to_settle]:
            for _ in self._threads:
                waiting.put(None)
        # Now that settle is awake: what ends for want of bytes is given back, and no try of it.
        self._budget.close()
        self._infer.wake()
        deadline = time.monotonic() + _TERMINATE_SECONDS
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def stalled(self) -> bool:
        """Whether clips wait for the device, and no tape has come back for too long."""
        return self._infer.stalled()

    def stuck(self) -> list[str]:
        """The stages that have work and end nothing, for longer than each may; dead threads too."""
        begun = [each for each in self._threads if each.ident is not None and not self._terminated]
        dead = [thread.name for thread in begun if not thread.is_alive()]
        return [*self._progress.stuck(), *["infer"] * self.stalled(), *dead]

    def _add_thread(self, name: str, target: Callable[..., None], *args: Any) -> None:
        # Daemons: a call that never returns must not keep the process from ending.
        self._threads.append(threading.Thread(target=target, args=args, name=name, daemon=True))

    def _run_stages(
        self,
        stages: Sequence[Stage],
        source: "queue.SimpleQueue[Task | None]",
        sink: Callable[[Task], None],
    ) -> None:
        first, rest = stages[0], stages[1:]
        while not self._terminated:
            tasks = gathered(source, first.takes)
            if first.takes > 1 and tasks:
                self._runner.run_together(first, tasks)
            for task in tasks:
                self._go_on(stages if first.takes == 1 else rest, task, sink)

    def _to_run(
        self,
        stages: Sequence[Stage],
        source: "queue.SimpleQueue[Task | None]",
        sink: Callable[[Task], None],
        task: Task,
    ) -> None:
        """To the threads of these stages; past the first, here, where that is not needed."""
        needed = stages[0].needed
        if needed is None or needed(task.value):
            source.put(task)
        else:
            self._go_on(stages[1:], task, sink)

    def _go_on(self, stages: Sequence[Stage], task: Task, sink: Callable[[Task], None]) -> None:
        """Take a task through stages on this thread, and on; or to its end."""
        for stage in stages:
            if task.error is None:
                self._runner.run(stage, task)
        if task.error is None:
            sink(task)
        else:
            self._end(task)

    def _run_infer(self) -> None:
        # Here and not before: what a device library prepares, it prepares for one thread.
        try:
            self._infer.warm_up()
        except Exception as error:
            self._warm.put(error)
            return
        self._warm.put(None)
        try:
            self._infer.run(lambda: self._terminated)
        except DeviceLost as error:
            # What was on the tape stays unsettled, to be given back with all the rest.
            log.critical("device.lost", error=str(error))
            self._device_lost()
        except Exception:
            # Without this thread the worker would take jobs that nothing runs: it ends instead.
            log.exception("infer.failed")
            self._device_lost()

    def _admitted(self, tasks: int) -> None:
        """So many tasks have come to infer."""
        with self._changed:
            self._before_infer -= tasks

    def _hand_on(self, tasks: Sequence[Task]) -> None:
        """All of a tape, so that they are settled together."""
        for task in tasks:
            self._to_settle.put(task)

    def _end(self, task: Task) -> None:
        """A task ends before infer."""
        with self._changed:
            self._before_infer -= 1
            if not self._before_infer:
                self._infer.wake()  # what waits there waits for nothing more
        self._to_settle.put(task)

    def _run_settle(self) -> None:
        while not self._terminated:
            if not (tasks := gathered(self._to_settle, SETTLE_BATCH)):
                continue
            self._progress.begin("settle", self._settle_patience_seconds)
            try:
                self._settle(tasks)
            except Exception:
                log.exception("settle.failed", jobs=[task.job.id for task in tasks])
            self._progress.end()
            for settled in tasks:
                settled.release()
            self._budget.release(sum(settled.charged_bytes for settled in tasks))
            with self._changed:
                self._in_flight -= len(tasks)
                self._changed.notify_all()
