"""The client of the queue for threads."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from producer.client.asked import NAME, Asked, Contract, as_job, event_id
from producer.client.operator import Operator
from producer.results import Event, Result
from storage.queue.batches import BatchState, Failure, check_batch
from storage.queue.cancellation import Cancelled
from storage.queue.steps import Driver
from storage.queue.submission import Submitted
from storage.queue.workers import MOST_WORKERS, Fleet
from storage.redis.connection import check_server, connect
from storage.settings import SharedSettings, load
from storage.wire.messages import Job, Lane


class Client:
    """The queue, from any thread; use it in a `with`, or close it. All calls raise RedisError.

    A call that raised it may have been carried out; each can be repeated, a submission with the
    same `Job`.
    """

    def __init__(self, url: str, contract: Contract | None = None, *, name: str = NAME) -> None:
        """`url` is any form of EMO_REDIS_URL; nothing is sent yet. Raises ValueError."""
        self._contract = contract or Contract()
        self._driver = Driver(connect(url, name=name))
        self._steps = Asked(self._contract)

    @classmethod
    def from_environment(cls) -> Self:
        """By the `EMO_*` variables. Raises InvalidSettings."""
        settings = load(SharedSettings, required=("redis_url",))
        return cls(settings.redis_url, Contract.of(settings))

    def check(self) -> None:
        """Raise UnfitServer for a server that is too old, or not what the URL says it is."""
        check_server(self._driver.client, self._contract.prefix)

    def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """Enqueue a job, or the object at a key, once. Raises BacklogFull, InvalidJob."""
        return self._driver.run(self._steps.submitting.submit(as_job(job), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> Iterator[Submitted]:
        """Enqueue jobs as they are asked for, many in one round trip; gives each, in order.

        Where the lanes are full it waits, or raises BacklogFull where not told to.
        """
        steps = self._steps.submitting.submit_many(map(as_job, jobs), lane, wait=wait)
        return self._driver.iterate(steps)

    def status(self, job_id: str) -> Result | None:
        """The job as it is now; None where nobody knows it, or its result has expired."""
        found = self._driver.run(self._steps.following.status(job_id))
        return None if found is None else Result(job_id, found)

    def wait(
        self, job_ids: Sequence[str], *, timeout_seconds: float | None = None
    ) -> Iterator[Result]:
        """Give the jobs' results as they end. Raises TimeoutError with jobs still open."""
        steps = self._steps.following.wait(job_ids, timeout_seconds=timeout_seconds)
        for job_id, fields in self._driver.iterate(steps):
            yield Result(job_id, fields)

    def results(self, after: str | None = None) -> Iterator[Event]:
        """Give the end of every job after that event, or from now on; it never ends.

        An outage is waited out. Resume at the `id` of the last event that was dealt with; `"0"`
        gives all that are kept. Entries that no worker wrote are passed over.
        """
        for entry, fields in self._driver.iterate(self._steps.following.events(event_id(after))):
            if event := Event.of(entry, fields):
                yield event

    def cancel(self, job_id: str) -> Cancelled:
        """End a job as `cancelled`, unless it has ended."""
        return self._driver.run(self._steps.cancelling.cancel(job_id))

    def workers(self, most: int = MOST_WORKERS) -> Fleet:
        """How the workers are, those that spoke last first. It needs the rights of an operator."""
        return self._driver.run(self._steps.workers.look(most))

    def batch(self, batch: str) -> "Batch":
        """A batch of that id, whether or not there is anything of it. Raises InvalidJob."""
        return Batch(batch, self._driver, self._steps)

    def close(self) -> None:
        """Close its connections."""
        self._driver.client.close()

    @property
    def operator(self) -> Operator:
        """What operators do beside jobs: lanes, dead letters, bulks, webhooks."""
        contract = self._contract
        return Operator(
            self._driver.client, prefix=contract.prefix, max_backlog=contract.max_backlog
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Batch:
    """Jobs that are counted together: see docs/batches.md. All calls raise RedisError."""

    def __init__(self, batch: str, driver: Driver, steps: Asked) -> None:
        self.id = check_batch(batch)
        self._driver = driver
        self._steps = steps

    def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """`Client.submit`, in this batch."""
        return self._driver.run(self._steps.submitting.submit(as_job(job, self.id), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> Iterator[Submitted]:
        """`Client.submit_many`, in this batch."""
        ours = (as_job(job, self.id) for job in jobs)
        return self._driver.iterate(self._steps.submitting.submit_many(ours, lane, wait=wait))

    def seal(self, total: int) -> BatchState:
        """Say how many different jobs were sent to it. It can be repeated. Raises WrongTotal."""
        return self._driver.run(self._steps.batching.seal(self.id, total))

    def state(self) -> BatchState | None:
        """What it has counted; None where there is nothing of it, or it has expired."""
        return self._driver.run(self._steps.batching.state(self.id))

    def wait(self, *, timeout_seconds: float | None = None) -> Iterator[BatchState]:
        """Give its state as it changes, until it is complete. Raises TimeoutError, BatchGone."""
        return self._driver.iterate(
            self._steps.batching.wait(self.id, timeout_seconds=timeout_seconds)
        )

    def cancel(self) -> int | None:
        """Have its jobs cancelled as they are met; returns how many are open, None if complete."""
        return self._driver.run(self._steps.batching.cancel(self.id))

    def failures(self, limit: int = 1000) -> list[Failure]:
        """Its jobs that failed, the newest first; no more than a thousand are kept."""
        return self._driver.run(self._steps.batching.failures(self.id, limit))
