"""A Settle with fakes around it, for the tests of its behaviour."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np

from storage.errors import JobError
from storage.objects.blob import Blob
from storage.queue.entries import Begun, Delivery, Ending, GivenBack, Outcome, Verdict
from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError
from storage.wire.messages import Job, Lane, Want
from worker.delivery.leases import Leases
from worker.delivery.results import Results
from worker.delivery.settle import Settle
from worker.engine.prediction import Prediction, Timeline
from worker.pipeline.task import Task
from worker.stages.infer import Classified, ClassifiedView
from worker.telemetry.metrics import Metrics

SCORES = {"happy": 0.75, "sad": 0.25}
PREDICTION = Prediction(
    label="happy",
    score=0.75,
    scores=SCORES,
    embedding=np.array([1.0, 2.0], dtype=np.float32),
    frames=np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
    timeline=Timeline(
        frames=np.array([(0, 60), (60, 125)]),
        scores=np.array([[0.75, 0.25], [0.1234567, 0.8765433]], np.float32),
        labels=("happy", "sad"),
    ),
)


class Streams:
    """Stands in for Redis: remembers what it is told, and fails as asked."""

    def __init__(self) -> None:
        self.finished: list[tuple[Begun, Ending]] = []
        self.retried: list[tuple[Begun, float, str, str]] = []
        self.excused: list[tuple[str, bool]] = []  # job, and whether it was counted
        self.often: set[str] = set()  # jobs that were given back often enough
        self.outcomes: dict[str, Outcome] = {}
        self.errors: list[Exception] = []
        self.refusals: dict[str, int] = {}
        self.faulty: set[str] = set()  # jobs that no batch can end with
        self.asked = threading.Event()
        self.meanwhile: Callable[[], object] = lambda: None

    def finish(self, endings: Iterable[tuple[Begun, Ending]]) -> list[Outcome | RedisError]:
        """All of it or nothing, but for jobs that are to be refused a number of times."""
        self._fail()
        asked = list(endings)
        if self.faulty & {begun.job_id for begun, _ in asked}:
            raise ValueError("boom")
        return [self._finish_one(begun, ending) for begun, ending in asked]

    def retry(self, begun: Begun, *, delay_seconds: float, code: str, message: str) -> Outcome:
        """Put aside."""
        self._fail()
        self.retried.append((begun, delay_seconds, code, message))
        return self.outcomes.get(begun.job_id, Outcome.RETRYING)

    def excuse(self, begun: Sequence[Begun], *, counted: bool) -> list[GivenBack]:
        """Give back."""
        self._fail()
        self.excused += [(each.job_id, counted) for each in begun]
        return [GivenBack.OFTEN if each.job_id in self.often else GivenBack.GIVEN for each in begun]

    def _finish_one(self, begun: Begun, ending: Ending) -> Outcome | RedisError:
        if self.refusals.get(begun.job_id):
            self.refusals[begun.job_id] -= 1
            return RedisError("not now")
        self.finished.append((begun, ending))
        return self.outcomes.get(begun.job_id, Outcome.SETTLED)

    def _fail(self) -> None:
        self.asked.set()
        self.meanwhile()
        if self.errors:
            raise self.errors.pop(0)


class Outputs:
    """An object store that keeps what is put."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.error: JobError | None = None

    def fetch(self, key: str, **options: Any) -> Blob:
        """Nothing is read from where outputs go."""
        raise AssertionError(key)

    def put(
        self, key: str, data: bytes | memoryview, *, content_type: str, bucket: str | None = None
    ) -> None:
        """Keep."""
        if self.error:
            raise self.error
        self.objects[key] = bytes(data)

    def check(self) -> None:
        """There is nothing to reach."""


class Desk:
    """A Settle with fakes around it."""

    def __init__(self, **options: Any) -> None:
        self.streams = Streams()
        self.outputs = Outputs()
        self.leases = Leases()
        self.metrics = Metrics()
        self.settle = Settle(
            cast(JobStreams, self.streams),
            self.leases,
            Results(
                self.outputs.put,
                output_prefix="out/",
                describe={
                    "model": "tiny",
                    "model_revision": "r1",
                    "device": "cpu",
                    "dtype": "float32",
                },
                untrained=options.pop("untrained", False),
            ),
            **{
                "max_attempts": 3,
                "retry_seconds": 1.0,
                "metrics": self.metrics,
                **options,
            },
        )

    def task(
        self, job_id: str = "x", *, error: JobError | None = None, attempts: int = 1, **more: Any
    ) -> Task:
        """A task of a held entry, that has ended in a prediction or with an error."""
        delivery = Delivery(Lane.NORMAL, f"{job_id}-0", 1, ())
        value = Classified(ClassifiedView(PREDICTION, silent=False), 2.5, more.pop("warnings", ()))
        task = Task(
            Job(job_id, "a.wav", want=frozenset({Want.SCORES, *more.pop("want", ())})),
            value=more.pop("value", None if error else value),
            ticket=Begun(delivery, Verdict.RUN, job_id, attempts=attempts, run=more.pop("run", 1)),
            error=error,
            milliseconds={"queue": 3.14159, "fetch": 2.0, "decode": 1.0, "normalize": 0.5}
            | {"infer": 40.0},
            batch_clips=7,
        )
        self.leases.hold([delivery])
        self.leases.begun(delivery, task)
        return task

    def ending(self, **options: Any) -> Ending:
        """How one task ends."""
        self.settle([self.task(**options)])
        ((_, ending),) = self.streams.finished
        return ending

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"emostream_{name}", labels) or 0.0
