"""A pipeline with fakes around it, for the tests of its behaviour."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from storage.errors import JobError
from storage.wire.messages import Job
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.budget import ByteBudget
from worker.pipeline.stage import Stage
from worker.pipeline.task import Task
from worker.pipeline.threads import Pipeline


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Network:
    """The batch stage: a clip is a list of numbers, its windows; each takes one slot."""

    def __init__(self, tape_slots: int = 100) -> None:
        self.tape_slots = tape_slots
        self.tapes: list[list[Any]] = []
        self.calls: list[str] = []
        self.free = threading.Event()  # cleared: the device is busy with the tape it has
        self.free.set()
        self.overlaps = False  # it returns from `start` before the tape is done, as a GPU does
        self.fail: dict[Any, Exception] = {}  # by segment: the tape it is on fails
        self.reject: dict[Any, JobError] = {}  # by segment: its output is an error
        self.refuse: dict[str, Exception] = {}  # by job: its clip cannot be cut in windows
        self.misjudge: dict[Any, Exception] = {}  # by output: it cannot be pooled
        self.missing = 0  # outputs kept back
        self.warming: Callable[[], object] = lambda: None
        self.full_tape_seconds = 0.0
        self.cold: Exception | None = None  # the warm-up fails

    def slots(self, segment: Any) -> int:
        """One slot each."""
        return 1

    def even(self, segments: Sequence[Any]) -> int:
        """A tape as long as may be."""
        return len(segments)

    def segments(self, job: Job, clip: Sequence[Any]) -> Sequence[Any]:
        """The clip is its windows."""
        if job.id in self.refuse:
            raise self.refuse[job.id]
        return clip

    def start(self, segments: Sequence[Any]) -> "Tape":
        """Put a tape on the device."""
        self.tapes.append(list(segments))
        self.calls.append(f"start {list(segments)}")
        if not self.overlaps:
            assert self.free.wait(TIMEOUT_SECONDS)
        return Tape(self, segments)

    def finish(self, tape: "Tape") -> Sequence[Any]:
        """Ten times each number."""
        self.calls.append(f"finish {list(tape.segments)}")
        assert self.free.wait(TIMEOUT_SECONDS)
        for segment in tape.segments:
            if segment in self.fail:
                raise self.fail[segment]
        outputs = [self.reject.get(segment, 10 * segment) for segment in tape.segments]
        return outputs[self.missing :]

    def warm_up(self) -> float:
        """Nothing is cold here, unless a test makes it fail or slow."""
        self.warming()
        if self.cold is not None:
            raise self.cold
        return self.full_tape_seconds

    def conclude(self, clip: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The outputs, as they came."""
        for output in outputs:
            if output in self.misjudge:
                raise self.misjudge[output]
        return outputs


@dataclass(frozen=True)
class Tape:
    """A tape on the device."""

    network: Network
    segments: Sequence[Any]

    def ready(self) -> bool:
        """Whether the device is free again."""
        return self.network.free.is_set()


class Settled:
    """Remembers how every task ended; their values are released by the pipeline afterwards."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.errors: dict[str, JobError | None] = {}
        self.batches: list[int] = []
        self.calls = 0
        self.free = threading.Event()
        self.free.set()

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Settle."""
        self.calls += 1
        assert self.free.wait(TIMEOUT_SECONDS)
        self.batches.append(len(tasks))
        for task in tasks:
            assert task.job.id not in self.errors, "settled twice"
            self.values[task.job.id] = task.value
            self.errors[task.job.id] = task.error


class Bench:
    """A pipeline with one stage before the network, and what can be seen from outside."""

    def __init__(self, call: Callable[[Any], Any] = lambda value: value, **options: Any) -> None:
        self.network = Network(options.pop("tape_slots", 100))
        self.settled = Settled()
        self.budget = ByteBudget(1000, decoded_bytes=0)
        options.setdefault("settle", self.settled)
        stages = options.pop("stages", None) or [Stage("work", call, threads=2)]
        self.pipeline = Pipeline(
            stages,
            self.network,
            **{
                "capacity": 100,
                "budget": self.budget,
                "max_wait_seconds": 60.0,
                "settle_threads": 1,
                **options,
            },
        )

    def submit(self, *ids: str, **fields: Any) -> list[Task]:
        """Submit a job for each id; its clip is one window, the id's length."""
        tasks = [Task(Job(each, "a.wav"), **{"value": [len(each)], **fields}) for each in ids]
        for task in tasks:
            self.pipeline.submit(task)
        return tasks

    def finish(self) -> None:
        """Wait until all is settled, with every byte given back."""
        assert self.pipeline.join(TIMEOUT_SECONDS)
        assert self.pipeline.in_flight == 0
        assert self.budget.used_bytes == 0

    def end(self) -> None:
        """Let everybody go, and see that no thread stays behind."""
        self.network.free.set()
        self.settled.free.set()
        self.pipeline.terminate()
        until(lambda: not self.running_threads())

    def running_threads(self) -> list[str]:
        """Names of the pipeline's threads that have not ended."""
        return [thread.name for thread in self.pipeline._threads if thread.is_alive()]


def code(error: JobError | None) -> str:
    """The code of an error that there must be."""
    assert error is not None
    return error.code


MakeBench = Callable[..., Bench]
