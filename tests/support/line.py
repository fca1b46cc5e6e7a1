"""A worker without a model, in this process: a real Redis and store, and all of the delivery."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from storage.objects.store import ObjectStore
from storage.queue.streams import JobStreams
from storage.redis.connection import connect
from storage.wire.messages import Keys
from tests.support.pipeline_bench import Network
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.settle_desk import PREDICTION
from tests.support.stream_workers import new_streams
from worker.audio.room import Spool
from worker.clip import Fetched
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.intake import Intake
from worker.delivery.leases import Leases
from worker.delivery.results import Results
from worker.delivery.settle import Settle
from worker.fitness.breaker import Breaker
from worker.fitness.guard import Guard
from worker.fitness.self_test import SelfTest
from worker.pipeline.budget import ByteBudget
from worker.pipeline.stage import Stage
from worker.pipeline.threads import Pipeline
from worker.stages.fetch import Fetch
from worker.stages.infer import Classified, ClassifiedView
from worker.telemetry.metrics import Metrics

KEYS = Keys("emo")
MAX_ATTEMPTS = 3


class Classifier(Network):
    """Every clip is happy."""

    def conclude(self, clip: Sequence[Any], outputs: Sequence[Any]) -> Classified:
        """The same for each."""
        return Classified(ClassifiedView(PREDICTION, silent=False), 1.0)


class Line:
    """One worker: intake, fetch, settle and the breaker, as `worker.app` puts them together."""

    def __init__(self, url: str, owner: str, store: ObjectStore, spool_dir: Path) -> None:
        self.client: Any = connect(url, name=f"test-{owner}", timeout_seconds=TIMEOUT_SECONDS)
        self.metrics = Metrics()
        self._streams = streams = new_streams(JobStreams, self.client, KEYS, owner, 30)
        leases = Leases()
        test = SelfTest(check_spool=Spool(spool_dir, 1 << 30).check, stores=[store])
        self.breaker = Breaker(test, metrics=self.metrics)
        guard = Guard(self.breaker)
        budget = ByteBudget(1 << 30, decoded_bytes=0)
        fetch = Fetch(store, max_object_bytes=1 << 20, admit=budget.admit)
        self._settle = Settle(
            streams,
            leases,
            Results(
                guard.unless_open(store.put), output_prefix="out/", describe={}, untrained=False
            ),
            max_attempts=MAX_ATTEMPTS,
            retry_seconds=0.01,
            metrics=self.metrics,
        )
        self._pipeline = Pipeline(
            [Stage("fetch", guard.unless_open(fetch), 4, 60), Stage("decode", _decode, 2)],
            Classifier(),
            settle=self._settle,
            capacity=64,
            budget=budget,
            max_wait_seconds=0,
        )
        self._heartbeat = Heartbeat(
            streams, leases, lease_seconds=30, stalled=lambda: False, metrics=self.metrics
        )
        self._intake = Intake(
            streams,
            self._pipeline,
            leases,
            self.breaker,
            lease_seconds=0.4,  # of the upkeep: it looks for work ten times a second
            max_job_bytes=32 * 1024,
            uptime_seconds=lambda: 1e9,
            weaknesses=list,
            metrics=self.metrics,
        )

    def start(self, *, look: bool = True) -> None:
        """Take jobs. Unless it is to `look`, nothing but its jobs tells it what it lacks."""
        self._pipeline.start()
        self._heartbeat.start()
        if look:
            self.breaker.start()
        self._intake.start()

    def stop(self) -> None:
        """Take none, and end."""
        if self._intake._thread.is_alive():
            self._intake.stop()
            self._settle.stop()
            self._pipeline.terminate()
            self._heartbeat.stop()
        self.breaker.stop()
        self.client.close()

    def promote(self) -> None:
        """Move all retries back to their lanes, due or not."""
        for job in self.client.zrange("emo:delayed", 0, -1):
            self.client.zadd("emo:delayed", {job: 0})
        self._streams.promote()

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"emostream_{name}", labels) or 0.0


def _decode(fetched: Fetched) -> list[int]:
    """One window."""
    with fetched.blob as blob:
        return [blob.size]


MakeLine = Callable[..., Line]


@contextmanager
def lines(url: str, spool_dir: Path) -> Iterator[MakeLine]:
    """Make workers on the server of that URL; nothing is printed."""
    made: list[Line] = []

    def make(owner: str, store: ObjectStore) -> Line:
        made.append(Line(url, owner, store, spool_dir))
        return made[-1]

    with capture_logs():
        yield make
        ending = [threading.Thread(target=line.stop) for line in made]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()
