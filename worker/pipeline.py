"""The pipeline: owns every stage thread and every queue. Tasks flow one way, to `settle`.

A stage has four verbs here, `submit`, `close`, `join` and `terminate`; the stages themselves are
plain callables that know nothing of threads.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from storage.errors import DeadlineExceeded, Internal, JobError
from worker.budget import ByteBudget, Closed
from worker.errors import DeviceLost
from worker.former import Piece, TapeFormer
from worker.task import Task

SETTLE_BATCH = 64
# Without any finished tape for so long, what waits for one is overdue. A slow device has longer: so
# many times what a full tape took it when it was warmed up.
_STALLED_SECONDS = 60.0
_STALLED_TAPES = 4
_TERMINATE_SECONDS = 1.0
# While a tape is on the device, new clips and its end are both waited for; only the clips can wake.
_DEVICE_POLL_SECONDS = 0.0005

log = structlog.get_logger(__name__)

SettleTasks = Callable[[Sequence[Task]], None]
Observe = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """A callable that takes one task's value to the next, and the threads that run it.

    `isolated` is called instead for a task that runs alone, where there is one. `holds` is for the
    stage after which the fetched object is gone: the bytes that its result holds in place of it.
    """

    name: str
    call: Callable[[Any], Any]
    threads: int
    limit_seconds: float | None = None
    isolated: Callable[[Any], Any] | None = None
    holds: Callable[[Any], int] | None = None


class Started(Protocol):
    """A tape on the device."""

    def ready(self) -> bool:
        """Whether it is done."""


class BatchStage(Protocol):
    """The last stage: takes windows of many clips at once. Called by one thread alone."""

    def warm_up(self) -> float:
        """Prepare before the first task; returns the seconds of a full tape. May raise."""

    @property
    def tape_slots(self) -> int:
        """Slots on one tape, now: the engine may lower it."""

    def slots(self, segment: Any) -> int:
        """Slots that a segment takes."""

    def segments(self, job: Any, clip: Any) -> Sequence[Any]:
        """The windows of a clip. Raises JobError."""

    def start(self, segments: Sequence[Any]) -> Started:
        """Start a tape, while at most one other is running."""

    def finish(self, started: Any) -> Sequence[Any]:
        """Wait for a tape: one output for each of its segments, in order."""

    def conclude(self, clip: Any, outputs: Sequence[Any]) -> Any:
        """All outputs of one clip as its result. Raises JobError."""


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
        observe: Observe = lambda stage, seconds: None,
        device_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.capacity = capacity
        self._infer = infer
        self._settle = settle
        self._budget = budget
        self._observe = observe
        self._device_lost = device_lost
        self._clock = clock
        self._changed = threading.Condition()
        self._in_flight = 0
        self._before_infer = 0
        self._inferring = 0
        self._closed = False
        self._terminated = False
        self._tape_finished_at = clock()
        self._stalled_seconds = _STALLED_SECONDS
        self._warm = queue.SimpleQueue[Exception | None]()
        # None only wakes whoever waits.
        self._queues = [queue.Queue[Task | None]() for _ in stages]
        self._to_infer = queue.Queue[Task | None]()
        self._to_settle = queue.Queue[Task | None]()
        self._former: TapeFormer[Any, Any] = TapeFormer(
            slots=infer.slots,
            tape_slots=lambda: infer.tape_slots,
            max_wait_seconds=max_wait_seconds,
        )
        self._threads: list[threading.Thread] = []
        sinks = [*self._queues[1:], self._to_infer]
        for stage, source, sink in zip(stages, self._queues, sinks, strict=True):
            for number in range(stage.threads):
                self._add_thread(f"{stage.name}-{number}", self._run_stage, stage, source, sink)
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
        self._budget.close()
        for waiting in [*self._queues, self._to_infer, self._to_settle]:
            for _ in self._threads:
                waiting.put(None)
        deadline = time.monotonic() + _TERMINATE_SECONDS
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def stalled(self) -> bool:
        """Whether clips wait for the device, and no tape has come back for too long."""
        waited_seconds = self._clock() - self._tape_finished_at
        return self._inferring > 0 and waited_seconds > self._stalled_seconds

    def _add_thread(self, name: str, target: Callable[..., None], *args: Any) -> None:
        # Daemons: a call that never returns must not keep the process from ending.
        self._threads.append(threading.Thread(target=target, args=args, name=name, daemon=True))

    def _tasks(self, source: queue.Queue[Task | None]) -> Iterator[Task]:
        while not self._terminated:
            task = source.get()
            if task is not None:
                yield task

    def _run_stage(
        self, stage: Stage, source: queue.Queue[Task | None], sink: queue.Queue[Task | None]
    ) -> None:
        for task in self._tasks(source):
            call = stage.isolated if task.alone and stage.isolated else stage.call
            started = self._clock()
            if stage.limit_seconds is not None:
                task.overdue_at = started + stage.limit_seconds
            with _ending(task, stage.name), self._budget.charging(task):
                _require_wanted(task)
                task.value = call(task.value)
                if stage.holds is not None:
                    self._budget.decoded(task, stage.holds(task.value))
            task.overdue_at = None
            seconds = self._clock() - started
            task.milliseconds[stage.name] = 1000 * seconds
            self._observe(stage.name, seconds)
            if task.error is None:
                sink.put(task)
            else:
                self._end(task)

    def _run_infer(self) -> None:
        # Here and not before: what a device library prepares, it prepares for one thread.
        started = self._clock()
        try:
            tape_seconds = self._infer.warm_up()
        except Exception as error:
            self._warm.put(error)
            return
        self._stalled_seconds = max(_STALLED_SECONDS, _STALLED_TAPES * tape_seconds)
        log.info(
            "pipeline.warm",
            seconds=round(self._clock() - started, 2),
            tape_seconds=round(tape_seconds, 3),
        )
        self._warm.put(None)
        try:
            self._run_tapes()
        except DeviceLost as error:
            # What was on the tape stays unsettled, to be given back with all the rest.
            log.critical("device.lost", error=str(error))
            self._device_lost()
        except Exception:
            # Without this thread the worker would take jobs that nothing runs: it ends instead.
            log.exception("infer.failed")
            self._device_lost()

    def _run_tapes(self) -> None:
        running: _Tape | None = None
        while not self._terminated:
            self._admit_arrived(running)
            done = running is not None and running.ready()
            due = self._former.due(
                self._clock(),
                more_coming=self._before_infer > 0,
                device_busy=running is not None and not done,
            )
            # Sent before the one ahead of it is looked at: the device has no gap between them.
            following = self._start_tape() if due else None
            if running and (done or following):
                self._finish_tape(running)
                running = None
            if following and following.ready():  # a CPU runs it while it is sent
                self._finish_tape(following)
                following = None
            running = following or running

    def _admit_arrived(self, running: "_Tape | None") -> None:
        """Let everything that has arrived wait in the former; wait for that if nothing has."""
        if running is not None:
            patience: float | None = 0.0 if running.ready() else _DEVICE_POLL_SECONDS
        else:
            patience = self._former.seconds_left(self._clock(), more_coming=self._before_infer > 0)
        try:
            task = self._to_infer.get(block=patience != 0.0, timeout=patience)
            while True:
                if task is not None:
                    self._admit(task)
                task = self._to_infer.get_nowait()
        except queue.Empty:
            return

    def _admit(self, task: Task) -> None:
        """Let a clip wait for its tape."""
        with self._changed:
            self._before_infer -= 1
        with _ending(task, "infer"):
            _require_wanted(task)
            segments = self._infer.segments(task.job, task.value)
        if task.error is not None:
            self._to_settle.put(task)
            return
        task.inferring_since = self._clock()
        if not self._inferring:
            self._tape_finished_at = task.inferring_since  # the device was idle until now
        self._inferring += 1
        self._former.add(task, segments, task.inferring_since)

    def _start_tape(self) -> "_Tape":
        pieces: list[Piece[Any, Any]] = self._former.take()
        segments = [piece.segment for piece in pieces]
        tape = _Tape(pieces, started_at=self._clock())
        with _failing(tape):
            tape.on_device = self._infer.start(segments)
        return tape

    def _finish_tape(self, tape: "_Tape") -> None:
        pieces = tape.pieces
        outputs: Sequence[Any] = []
        with _failing(tape):
            if tape.on_device is not None:
                outputs = self._infer.finish(tape.on_device)
                if len(outputs) != len(pieces):
                    raise ValueError(f"{len(outputs)} outputs for {len(pieces)} segments")
        if tape.error is not None:
            outputs = [tape.error] * len(pieces)
        self._tape_finished_at = self._clock()
        self._observe("infer", self._tape_finished_at - tape.started_at)
        clips = len({id(piece.owner) for piece in pieces})
        for task, whole in self._former.deliver(pieces, outputs):
            self._inferring -= 1
            self._conclude(task, whole, clips)

    def _conclude(self, task: Any, outputs: list[Any], clips: int) -> None:
        task.milliseconds["infer"] = 1000 * (self._clock() - task.inferring_since)
        task.batch_clips = clips
        with _ending(task, "infer"):
            for output in outputs:
                if isinstance(output, JobError):
                    raise output
            task.value = self._infer.conclude(task.value, outputs)
        self._to_settle.put(task)

    def _end(self, task: Task) -> None:
        """A task ends before infer."""
        with self._changed:
            self._before_infer -= 1
            if not self._before_infer:
                self._to_infer.put(None)  # what waits there waits for nothing more
        self._to_settle.put(task)

    def _run_settle(self) -> None:
        for task in self._tasks(self._to_settle):
            tasks = [task]
            while len(tasks) < SETTLE_BATCH:
                try:
                    another = self._to_settle.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    break
                tasks.append(another)
            try:
                self._settle(tasks)
            except Exception:
                log.exception("settle.failed", jobs=[task.job.id for task in tasks])
            for settled in tasks:
                settled.release()
                self._budget.release(settled.charged_bytes)
            with self._changed:
                self._in_flight -= len(tasks)
                self._changed.notify_all()


@dataclass(slots=True)
class _Tape:
    """A tape on the device, or one that failed on its way there."""

    pieces: list[Piece[Any, Any]]
    started_at: float
    on_device: Started | None = None
    error: JobError | None = None

    def ready(self) -> bool:
        return self.on_device is None or self.on_device.ready()


@contextmanager
def _failing(tape: _Tape) -> Iterator[None]:
    """Whatever goes wrong within fails the tape, except that the device is lost."""
    try:
        yield
    except DeviceLost:
        raise
    except Exception as error:
        tape.error = _as_job_error(error, "infer", segments=len(tape.pieces))


@contextmanager
def _ending(task: Task, stage: str) -> Iterator[None]:
    """Whatever goes wrong within ends the task, and nothing else."""
    try:
        yield
    except Exception as error:
        task.error = _as_job_error(error, stage, job=task.job.id)


def _as_job_error(error: Exception, stage: str, **about: object) -> JobError:
    if isinstance(error, JobError):
        return error
    if isinstance(error, Closed):
        return Internal("the worker is stopping")
    log.error("stage.failed", stage=stage, exc_info=error, **about)
    return Internal(f"{stage}: {type(error).__name__}: {error}")


def _require_wanted(task: Task) -> None:
    if task.abandoned or task.expired():
        raise DeadlineExceeded("the deadline passed before it was done")
