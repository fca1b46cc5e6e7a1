"""The infer thread's work: clips become tapes, tapes run on the device, and results go on."""

import gc
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, cast

import structlog

from storage.errors import JobError
from worker.errors import DeviceLost
from worker.pipeline.ending import as_job_error, end, require_wanted
from worker.pipeline.former import Piece, TapeFormer
from worker.pipeline.task import Task

# Without any finished tape for so long, what waits for one is overdue. A slow device has longer: so
# many times what a full tape took it when it was warmed up.
_STALLED_SECONDS = 60.0
_STALLED_TAPES = 4
# While a tape is on the device, new clips and its end are both waited for; only the clips can wake.
_DEVICE_POLL_SECONDS = 0.0005
_GATHER_SECONDS = 0.001

log = structlog.get_logger(__name__)

Observe = Callable[[str, float], None]


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

    def even(self, segments: Sequence[Any]) -> int:
        """How many of the first segments make the best tape, where more wait behind them."""

    def segments(self, job: Any, clip: Any) -> Sequence[Any]:
        """The windows of a clip. Raises JobError."""

    def start(self, segments: Sequence[Any]) -> Started:
        """Start a tape, while at most one other is running."""

    def finish(self, started: Any) -> Sequence[Any]:
        """Wait for a tape: one output for each of its segments, in order."""

    def conclude(self, clip: Any, outputs: Sequence[Any]) -> Any:
        """All outputs of one clip as its result. Raises JobError."""


class InferLoop:
    """Runs `infer` on all that is submitted. Owned by the infer thread, unless a method says not.

    `more_coming` says whether more clips are on their way; `admitted` is told how many have
    arrived, and `hand_on` is given the tasks that have their results or their errors.
    """

    def __init__(
        self,
        infer: BatchStage,
        *,
        max_wait_seconds: float,
        more_coming: Callable[[], bool],
        admitted: Callable[[int], None],
        hand_on: Callable[[Sequence[Task]], None],
        observe: Observe,
        clock: Callable[[], float],
    ) -> None:
        self.inferring = 0  # clips that wait here, or are on a tape; any thread may look
        self._infer = infer
        self._more_coming = more_coming
        self._admitted = admitted
        self._hand_on = hand_on
        self._observe = observe
        self._clock = clock
        self._arrived = queue.SimpleQueue[Task | None]()  # None only wakes
        self._max_wait_seconds = max_wait_seconds
        self._on_device = 0  # tapes
        self._owed_since = self._looked_at = clock()  # a tape: by the device, or by the clips
        self._stalled_seconds = _STALLED_SECONDS
        self._former: TapeFormer[Any, Any] = TapeFormer(
            slots=infer.slots,
            tape_slots=lambda: infer.tape_slots,
            even=infer.even,
            max_wait_seconds=max_wait_seconds,
        )

    def submit(self, task: Task) -> None:
        """Take a clip in. Any thread."""
        self._arrived.put(task)

    def wake(self) -> None:
        """Look again at what is still coming, and whether to end. Any thread."""
        self._arrived.put(None)

    def stalled(self) -> bool:
        """Whether clips wait for the device, and no tape has come back for too long. Any thread.

        Or whether they are not even looked at.
        """
        now, patience = self._clock(), self._stalled_seconds
        company = 0 if self._on_device else self._max_wait_seconds  # for which clips may wait
        waiting = self.inferring > 0 and now - self._owed_since > patience + company
        return waiting or (not self._arrived.empty() and now - self._looked_at > patience)

    def warm_up(self) -> None:
        """Prepare for the first clip. Raises what `infer.warm_up` raises."""
        started = self._clock()
        tape_seconds = self._infer.warm_up()
        self._stalled_seconds = max(_STALLED_SECONDS, _STALLED_TAPES * tape_seconds)
        # What is there now stays: a full collection, which stops all threads, need not look at it.
        gc.collect()
        gc.freeze()
        log.info(
            "pipeline.warm",
            seconds=round(self._clock() - started, 2),
            tape_seconds=round(tape_seconds, 3),
        )

    def run(self, terminated: Callable[[], bool]) -> None:
        """Send tape after tape until terminated. Raises DeviceLost."""
        running: _Tape | None = None
        while not terminated():
            self._admit_arrived(running)
            done = running is not None and running.ready()
            due = self._former.due(
                self._clock(),
                more_coming=self._more_coming(),
                device_busy=running is not None and not done,
            )
            # Sent before the one ahead of it is looked at: the device has no gap between them.
            following = self._start_tape() if due and not self._give_up() else None
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
            patience = self._former.seconds_left(self._clock(), more_coming=self._more_coming())
        arrived: list[Task] = []
        self._looked_at = inf
        try:
            task = self._arrived.get(block=patience != 0.0, timeout=patience)
            if patience != 0.0 and self._former and self._more_coming():
                # One wakes this thread for several: they are on their way, and so is its tape.
                time.sleep(_GATHER_SECONDS)
            while True:
                if task is not None:
                    arrived.append(task)
                task = self._arrived.get_nowait()
        except queue.Empty:
            pass
        self._looked_at = self._clock()
        if arrived:
            self._admit(arrived)

    def _admit(self, tasks: Sequence[Task]) -> None:
        """Let clips wait for their tape."""
        self._admitted(len(tasks))
        now, ended = self._clock(), []
        if not self.inferring:
            self._owed_since = now  # the device was idle until now
        for task in tasks:
            try:
                require_wanted(task)
                segments = self._infer.segments(task.job, task.value)
            except Exception as error:
                end(task, "infer", error)
                ended.append(task)
                continue
            task.inferring_since = now
            self.inferring += 1
            self._former.add(task, segments, now)
        self._hand_on(ended)

    def _give_up(self) -> bool:
        """Spend no tape on clips that nobody waits for any more; whether there were any."""
        waiting = len(self._former)
        self._end_clips(self._former.give_up(_unwanted), 0, self._clock())
        return len(self._former) < waiting

    def _start_tape(self) -> "_Tape":
        pieces: list[Piece[Any, Any]] = self._former.take()
        segments = [piece.segment for piece in pieces]
        tape = _Tape(pieces, started_at=self._clock())
        if not self._on_device:
            self._owed_since = tape.started_at
        self._on_device += 1
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
        finished_at = self._owed_since = self._clock()
        self._on_device -= 1
        self._observe("infer", finished_at - tape.started_at)
        clips = len({id(piece.owner) for piece in pieces})
        self._end_clips(self._former.deliver(pieces, outputs), clips, finished_at)

    def _end_clips(
        self, ended: Sequence[tuple[object, list[Any]]], clips: int, finished_at: float
    ) -> None:
        """Hand on clips with all of their outputs; `clips` were on the last tape."""
        for task, outputs in ended:
            self._conclude(task, outputs, clips, finished_at)
        self.inferring -= len(ended)
        self._hand_on([cast(Task, task) for task, _ in ended])

    def _conclude(self, task: Any, outputs: list[Any], clips: int, finished_at: float) -> None:
        task.milliseconds["infer"] = 1000 * (finished_at - task.inferring_since)
        task.batch_clips = clips
        try:
            for output in outputs:
                if isinstance(output, JobError):
                    raise output
            task.value = self._infer.conclude(task.value, outputs)
        except Exception as error:
            end(task, "infer", error)


@dataclass(slots=True)
class _Tape:
    """A tape on the device, or one that failed on its way there."""

    pieces: list[Piece[Any, Any]]
    started_at: float
    on_device: Started | None = None
    error: JobError | None = None

    def ready(self) -> bool:
        return self.on_device is None or self.on_device.ready()


def _unwanted(task: Any) -> JobError | None:
    """Why nobody waits for the task any more; None where somebody does."""
    try:
        require_wanted(task)
    except JobError as error:
        return error
    return None


@contextmanager
def _failing(tape: _Tape) -> Iterator[None]:
    """Whatever goes wrong within fails the tape, except that the device is lost."""
    try:
        yield
    except DeviceLost:
        raise
    except Exception as error:
        tape.error = as_job_error(error, "infer", segments=len(tape.pieces))
