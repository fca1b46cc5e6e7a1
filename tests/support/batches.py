"""All that may happen to the jobs of batches, for their tests."""

from typing import Any

from storage.queue.batches import Batching, BatchState
from storage.queue.cancellation import Cancellations
from storage.queue.dead import DeadLetters
from storage.queue.entries import Begun, Ending, Ends, Verdict
from storage.queue.steps import Driver
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane
from tests.support.stream_workers import DONE, Worker

TTL_MS = 60_000
WEEK_MS = 7 * 86_400_000


class Side:
    """All that may happen to the jobs of batches, on one server."""

    def __init__(self, client: Any, keys: Keys, worker: Worker) -> None:
        self.client, self.keys = client, keys
        ends = Ends(TTL_MS / 1000, 1000)
        self._driver = Driver(client)
        self._batching = Batching(keys, ends)
        self.submissions = Submissions(client, keys=keys, max_backlog=1000, ends=ends)
        self.cancellations = Cancellations(
            client, keys=keys, result_ttl_seconds=60, results_maxlen=1000
        )
        self.letters = DeadLetters(client, keys=keys, max_backlog=1000)
        self.one, self.two = worker("one"), worker("two")

    def xadd(self, job: str, batch: str = "b", **fields: str) -> str:
        """Send a job as anybody may; returns its entry."""
        added = self.client.xadd("emo:jobs", {"key": "a.wav", "job": job, "batch": batch, **fields})
        return str(added.decode())

    def submit(self, job: str, batch: str | None = "b") -> bool:
        """Submit a job; whether it was enqueued."""
        return self.submissions.submit(Job(job, "a.wav", batch=batch), Lane.NORMAL).enqueued

    def begin(self) -> list[Begun]:
        """Begin all that is new."""
        return self.one.begin(self.one.read(20))

    def end(self, ending: Ending = DONE) -> None:
        """End all that is new."""
        running = [each for each in self.begin() if each.verdict is Verdict.RUN]
        self.one.finish([(each, ending) for each in running])

    def state(self, batch: str = "b") -> BatchState:
        """What the batch has counted."""
        found = self._driver.run(self._batching.state(batch))
        assert found is not None
        return found

    def counts(self, batch: str = "b") -> dict[str, int]:
        """Its counts that are not 0."""
        state = self.state(batch)
        every: dict[str, int] = {"jobs": state.jobs, "repeated": state.repeated}
        every |= {name.value: count for name, count in state.ends.items()}
        return {name: count for name, count in every.items() if count}

    def seal(self, total: int, batch: str = "b") -> BatchState:
        """Seal it."""
        return self._driver.run(self._batching.seal(batch, total))

    def cancel(self, batch: str = "b") -> int | None:
        """Cancel it."""
        return self._driver.run(self._batching.cancel(batch))

    def failures(self, batch: str = "b") -> list[str]:
        """Those of it that failed."""
        listed = self._driver.run(self._batching.failures(batch, 2000))
        return [f"{each.job_id} {each.status} {each.error_code}" for each in listed]

    def unfinished(self) -> tuple[int, int, int]:
        """How many batches are open, how many sealed, and the jobs of them that have not ended."""
        found = self._driver.run(self._batching.unfinished())
        assert found.unread == 0
        return found.open, found.sealed, found.jobs

    def events(self) -> list[tuple[str, str]]:
        """Batch and run of each `complete`."""
        return [
            (fields[b"batch"].decode(), fields[b"run"].decode())
            for _, fields in self.client.xrange("emo:batches")
        ]
