"""The files that a page has sent to a batch, by their job: what a batch's counts do not tell.

A hash for each batch, `<job> → JSON`, written before the first byte of a file is stored: a page
that is opened again finds all of them, also those whose upload was never ended.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from storage.queue.following import fields_as_text
from storage.wire.messages import Keys

TTL_SECONDS = 7 * 86_400  # after the last change, as an open batch


class BatchFiles:
    """Notes and tells the files of batches. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def note(self, batch: str, job: str, told: Mapping[str, Any]) -> None:
        """Note what is known of a file, instead of what was."""
        key = self._keys.files(batch)
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.hset(key, job, json.dumps(told, ensure_ascii=False))
        pipeline.pexpire(key, TTL_SECONDS * 1000)
        pipeline.execute()

    def begun(self, batch: str, job: str) -> None:
        """Note that an upload goes on now: in one hash for all, so that none is forgotten."""
        self._client.hset(self._keys.uploads, f"{batch} {job}", str(round(time.time() * 1000)))

    def ended(self, batch: str, job: str) -> None:
        """Forget an upload that was ended or given up."""
        self._client.hdel(self._keys.uploads, f"{batch} {job}")

    def abandoned(self, older_than_seconds: float) -> list[tuple[str, str]]:
        """The batch and job of each upload that nobody has gone on with for so long."""
        found: Any = self._client.hgetall(self._keys.uploads)
        before_ms = 1000 * (time.time() - older_than_seconds)
        old = [name.decode("utf-8", "replace") for name, at in found.items() if _ms(at) < before_ms]
        return [(batch, job) for batch, _, job in (name.partition(" ") for name in old)]

    def of(self, batch: str, job: str) -> dict[str, Any] | None:
        """What was noted of one file; None for one that nobody knows."""
        found: Any = self._client.hget(self._keys.files(batch), job)
        return None if found is None else _told(found)

    def all(self, batch: str) -> dict[str, dict[str, Any]]:
        """What was noted of each file of a batch, by its job; the first that was begun first."""
        found: Any = self._client.hgetall(self._keys.files(batch))
        told = {job.decode("utf-8", "replace"): _told(text) for job, text in found.items()}
        known = {job: each for job, each in told.items() if each is not None}
        return dict(sorted(known.items(), key=lambda item: _began_ms(item[1])))

    def count(self, batch: str) -> int:
        """How many files were noted of a batch."""
        return int(self._client.hlen(self._keys.files(batch)))

    def results(self, jobs: Sequence[str]) -> dict[str, dict[str, str]]:
        """The result hashes of jobs that have one, without internal fields; in one round trip."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for job in jobs:
            pipeline.hgetall(self._keys.result(job))
        found = {
            job: {name: text for name, text in fields_as_text(raw).items() if name[:1] != "_"}
            for job, raw in zip(jobs, pipeline.execute(), strict=True)
        }
        return {job: fields for job, fields in found.items() if fields}


def _ms(text: bytes) -> int:
    return int(text) if text.isdigit() else 0


def _began_ms(told: Mapping[str, Any]) -> float:
    began = told.get("began_ms")
    return float(began) if isinstance(began, int | float) else 0.0


def _told(text: bytes) -> dict[str, Any] | None:
    """What was noted; None for what we did not write."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
