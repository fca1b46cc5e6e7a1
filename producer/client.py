"""A client of the queue, for threads and for event loops; the commands use it too.

    with Client("redis://localhost") as client:
        submitted = client.submit("calls/a.wav")
        for result in client.wait([submitted.job_id]):
            print(result.label, result.scores)

Both kinds carry out the same steps; see docs/clients.md.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from producer.results import Event, Result
from storage.errors import InvalidJob
from storage.queue.cancellation import Cancelled, Cancelling, Ends
from storage.queue.following import Following
from storage.queue.steps import AsyncDriver, Driver
from storage.queue.submission import BacklogFull, Submitted, Submitting
from storage.redis.connection import (
    Client as Connection,
)
from storage.redis.connection import (
    RedisError,
    UnfitServer,
    check_server,
    connect,
)
from storage.redis.event_loop import check_server_async, connect_async
from storage.settings import SharedSettings, load
from storage.wire.messages import Job, Keys, Lane, parse_job

__all__ = [
    "AsyncClient",
    "BacklogFull",
    "Client",
    "Contract",
    "InvalidJob",
    "Lane",
    "RedisError",
    "Submitted",
    "UnfitServer",
    "new_job",
]

_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
_DEFAULTS = SharedSettings.model_fields
_NAME = "emostream-client"


@dataclass(frozen=True, slots=True)
class Contract:
    """What producers and workers must agree on, as the settings have it by default."""

    prefix: str = _DEFAULTS["prefix"].default
    max_backlog: int = _DEFAULTS["max_backlog"].default
    max_job_bytes: int = int(_DEFAULTS["max_job_bytes"].default)
    result_ttl_seconds: float = _DEFAULTS["result_ttl_seconds"].default
    results_maxlen: int = _DEFAULTS["results_maxlen"].default

    @classmethod
    def of(cls, settings: SharedSettings) -> Self:
        """That of the settings."""
        return cls(
            settings.prefix,
            settings.max_backlog,
            settings.max_job_bytes,
            settings.result_ttl_seconds,
            settings.results_maxlen,
        )


def new_job(key: str, *, job: str | None = None, **fields: Any) -> Job:
    """A job of the object at that key, checked as a worker will. Raises InvalidJob.

    `fields` are those of docs/wire.md; what they list may be given as a list: `want`, `labels`,
    and `segments` as mappings. Without `job` it gets an id of its own.
    """
    job_id = job or uuid.uuid4().hex
    sent = {"key": key, "job": job_id}
    sent |= {name: _text(name, value) for name, value in fields.items() if value is not None}
    listed = [text.encode() for pair in sent.items() for text in pair]
    return parse_job(job_id, listed, max_job_bytes=Contract().max_job_bytes)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if name == "segments":
        return json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, Iterable):
        return ",".join(map(str, value))
    return str(value)


class _Steps:
    """What both kinds of client carry out."""

    def __init__(self, contract: Contract) -> None:
        self.keys = Keys(contract.prefix)
        self.submitting = Submitting(self.keys, contract.max_backlog)
        self.following = Following(self.keys)
        ends = Ends(contract.result_ttl_seconds, contract.results_maxlen)
        self.cancelling = Cancelling(self.keys, ends)


class Client:
    """The queue, from any thread; use it in a `with`, or close it. All calls raise RedisError.

    A call that raised it may have been carried out; each can be repeated, a submission with the
    same `Job`.
    """

    def __init__(self, url: str, contract: Contract | None = None, *, name: str = _NAME) -> None:
        """`url` is any form of EMO_REDIS_URL; nothing is sent yet. Raises ValueError."""
        self._contract = contract or Contract()
        self._driver = Driver(connect(url, name=name))
        self._steps = _Steps(self._contract)

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
        return self._driver.run(self._steps.submitting.submit(_job(job), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> Iterator[Submitted]:
        """Enqueue jobs as they are asked for, many in one round trip; gives each, in order.

        Where the lanes are full it waits, or raises BacklogFull where not told to.
        """
        steps = self._steps.submitting.submit_many(map(_job, jobs), lane, wait=wait)
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
        for entry, fields in self._driver.iterate(self._steps.following.events(_event(after))):
            if event := Event.of(entry, fields):
                yield event

    def cancel(self, job_id: str) -> Cancelled:
        """End a job as `cancelled`, unless it has ended."""
        return self._driver.run(self._steps.cancelling.cancel(job_id))

    def close(self) -> None:
        """Close its connections."""
        self._driver.client.close()

    @property
    def connection(self) -> Connection:
        """For what operators alone do: lanes and dead letters."""
        return self._driver.client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient:
    """`Client` on an event loop: the same calls, awaited; use it in an `async with`."""

    def __init__(self, url: str, contract: Contract | None = None, *, name: str = _NAME) -> None:
        """See `Client`."""
        self._contract = contract or Contract()
        self._driver = AsyncDriver(connect_async(url, name=name))
        self._steps = _Steps(self._contract)

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
        return await self._driver.run(self._steps.submitting.submit(_job(job), lane))

    def submit_many(
        self, jobs: Iterable[Job | str], lane: Lane = Lane.NORMAL, *, wait: bool = True
    ) -> AsyncIterator[Submitted]:
        """See `Client.submit_many`."""
        steps = self._steps.submitting.submit_many(map(_job, jobs), lane, wait=wait)
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
        steps = self._steps.following.events(_event(after))
        async for entry, fields in self._driver.iterate(steps):
            if event := Event.of(entry, fields):
                yield event

    async def cancel(self, job_id: str) -> Cancelled:
        """See `Client.cancel`."""
        return await self._driver.run(self._steps.cancelling.cancel(job_id))

    async def close(self) -> None:
        """Close its connections."""
        await self._driver.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _job(job: Job | str) -> Job:
    return new_job(job) if isinstance(job, str) else job


def _event(after: str | None) -> str | None:
    if after is not None and not _EVENT_ID.fullmatch(after):
        raise ValueError(f"{after!r} is not the id of an event")
    return after
