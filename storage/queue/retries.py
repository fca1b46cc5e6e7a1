"""Jobs that wait for their next attempt, by what the last one failed of."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from storage.wire.messages import Keys, Status

MOST = 1000  # of those that are due first


class Retries:
    """Looks at them. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys

    def causes(self) -> Mapping[str, Sequence[str]]:
        """Job ids by error code, those that are due first before others, a thousand at most."""
        if self._client.type(self._keys.delayed) != b"zset":  # nobody waits, or it is no list
            return {}
        jobs = [
            job.decode("utf-8", "replace")
            for job in self._client.zrange(self._keys.delayed, 0, MOST - 1)
        ]
        pipeline = self._client.pipeline(transaction=False)
        for job in jobs:
            pipeline.hmget(self._keys.result(job), "status", "error_code")
        found: dict[str, list[str]] = {}
        for job, told in zip(jobs, pipeline.execute(raise_on_error=False), strict=True):
            if isinstance(told, ResponseError):  # it is no hash
                continue
            if isinstance(told, Exception):
                raise told
            status, code = told
            if status == Status.RETRYING.value.encode() and code:
                found.setdefault(code.decode("utf-8", "replace"), []).append(job)
        return found
