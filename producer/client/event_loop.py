"""The client of the queue for event loops."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Self

from producer.client.asked import NAME, Asked, Contract, as_job, event_id
from producer.results import Event, Result
from storage.queue.batches import BatchState, Failure, check_batch
from storage.queue.cancellation import Cancelled
from storage.queue.steps import AsyncDriver
from storage.queue.submission import Submitted
from storage.queue.workers import MOST_WORKERS, Fleet
from storage.redis.event_loop import check_server_async, connect_async
from storage.settings import SharedSettings, load
from storage.wire.messages import Job, Lane


class AsyncClient:
    """`Client` on an event loop: the same calls, awaited; use it in an `async with`."""

    def __init__(self, url: str, contract: Contract | None = None, *, name: str = NAME) -> None:
        """See `Client`."""
        self._contract = contract or Contract()
        self._driver = AsyncDriver(connect_async(url, name=name))
        self._steps = Asked(self._contract)

    @classmethod
    def from_environment(cls) -> Self:
        """See `Client.from_environment`."""
        settings = load(SharedSettings, required=("redis_url",))
        return cls(settings.redis_url, Contract.of(settings))

    async def check(self) -> None:
        """See `Client.check`."""
        await check_server_async(self._driver.client, self._contract.prefix)

    async def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """See `Client.submit`."""
        return await self._driver.run(self._steps.submitting.submit(as_job(job), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> AsyncIterator[Submitted]:
        """See `Client.submit_many`."""
        steps = self._steps.submitting.submit_many(map(as_job, jobs), lane, wait=wait)
        return self._driver.iterate(steps)

    async def status(self, job_id: str) -> Result | None:
        """See `Client.status`."""
        found = await self._driver.run(self._steps.following.status(job_id))
        return None if found is None else Result(job_id, found)

    async def wait(
        self, job_ids: Sequence[str], *, timeout_seconds: float | None = None
    ) -> AsyncIterator[Result]:
        """See `Client.wait`."""
        steps = self._steps.following.wait(job_ids, timeout_seconds=timeout_seconds)
        async for job_id, fields in self._driver.iterate(steps):
            yield Result(job_id, fields)

    async def results(self, after: str | None = None) -> AsyncIterator[Event]:
        """See `Client.results`."""
        steps = self._steps.following.events(event_id(after))
        async for entry, fields in self._driver.iterate(steps):
            if event := Event.of(entry, fields):
                yield event

    async def cancel(self, job_id: str) -> Cancelled:
        """See `Client.cancel`."""
        return await self._driver.run(self._steps.cancelling.cancel(job_id))

    async def workers(self, most: int = MOST_WORKERS) -> Fleet:
        """See `Client.workers`."""
        return await self._driver.run(self._steps.workers.look(most))

    def batch(self, batch: str) -> "AsyncBatch":
        """See `Client.batch`."""
        return AsyncBatch(batch, self._driver, self._steps)

    async def close(self) -> None:
        """Close its connections."""
        await self._driver.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncBatch:
    """`Batch` on an event loop."""

    def __init__(self, batch: str, driver: AsyncDriver, steps: Asked) -> None:
        self.id = check_batch(batch)
        self._driver = driver
        self._steps = steps

    async def submit(self, job: Job | str, lane: Lane = Lane.NORMAL) -> Submitted:
        """`Client.submit`, in this batch."""
        return await self._driver.run(self._steps.submitting.submit(as_job(job, self.id), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> AsyncIterator[Submitted]:
        """See `Batch.submit_many`."""
        ours = (as_job(job, self.id) for job in jobs)
        return self._driver.iterate(self._steps.submitting.submit_many(ours, lane, wait=wait))

    async def seal(self, total: int) -> BatchState:
        """See `Batch.seal`."""
        return await self._driver.run(self._steps.batching.seal(self.id, total))

    async def state(self) -> BatchState | None:
        """See `Batch.state`."""
        return await self._driver.run(self._steps.batching.state(self.id))

    def wait(self, *, timeout_seconds: float | None = None) -> AsyncIterator[BatchState]:
        """See `Batch.wait`."""
        return self._driver.iterate(
            self._steps.batching.wait(self.id, timeout_seconds=timeout_seconds)
        )

    async def cancel(self) -> int | None:
        """See `Batch.cancel`."""
        return await self._driver.run(self._steps.batching.cancel(self.id))

    async def failures(self, limit: int = 1000) -> list[Failure]:
        """See `Batch.failures`."""
        return await self._driver.run(self._steps.batching.failures(self.id, limit))
