"""What both kinds of client carry out, and what they are asked with."""

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from storage.queue.batches import Batching, check_batch
from storage.queue.cancellation import Cancelling
from storage.queue.entries import Ends
from storage.queue.following import Following
from storage.queue.submission import Submitting
from storage.queue.workers import Workers
from storage.settings import SharedSettings
from storage.wire.messages import Job, Keys, parse_job

NAME = "emostream-client"
_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?")
_DEFAULTS = SharedSettings.model_fields


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


def new_job(
    key: str, *, job: str | None = None, max_job_bytes: int | None = None, **fields: Any
) -> Job:
    """A job of the object at that key, checked as a worker will. Raises InvalidJob.

    `fields` are those of docs/wire.md; what they list may be given as a list: `want`, `labels`,
    and `segments` as mappings. Without `job` it gets an id of its own.
    """
    job_id = job or uuid.uuid4().hex
    sent = {"key": key, "job": job_id}
    sent |= {name: field_text(name, value) for name, value in fields.items() if value is not None}
    listed = [text.encode() for pair in sent.items() for text in pair]
    return parse_job(job_id, listed, max_job_bytes=max_job_bytes or Contract().max_job_bytes)


def field_text(name: str, value: Any) -> str:
    """A field of a job as it is sent: lists in commas, segments as JSON."""
    if isinstance(value, str):
        return value
    if name == "segments" and isinstance(value, Iterable):
        return json.dumps(list(value), ensure_ascii=False, default=str)
    if isinstance(value, Iterable):
        return ",".join(map(str, value))
    return str(value)


class Asked:
    """What both kinds of client carry out."""

    def __init__(self, contract: Contract) -> None:
        self.keys = Keys(contract.prefix)
        ends = Ends(contract.result_ttl_seconds, contract.results_maxlen)
        self.submitting = Submitting(self.keys, contract.max_backlog, ends)
        self.following = Following(self.keys)
        self.cancelling = Cancelling(self.keys, ends)
        self.batching = Batching(self.keys, ends)
        self.workers = Workers(self.keys)


def as_job(job: Job | str, batch: str | None = None) -> Job:
    """The job, or one of the object at that key; in the batch, where there is one."""
    job = new_job(job) if isinstance(job, str) else job
    return job if batch is None else replace(job, batch=check_batch(batch))


def event_id(after: str | None) -> str | None:
    """What to resume at. Raises ValueError for what is no id."""
    if after is not None and not _EVENT_ID.fullmatch(after):
        raise ValueError(f"{after!r} is not the id of an event")
    return after
