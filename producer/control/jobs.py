"""Jobs and queues of rq that run what we list, and nothing else.

As rq has them, a job is a pickle, names any function of any module, and may name more to be called
when it ends, or addresses to be told: whoever writes into `rq:*` runs code. Here a job is JSON, and
its function a name that `functions` has.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar

from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.serializers import JSONSerializer

from storage.redis.connection import Client

JOB_SECONDS = 30
_FAILED_SECONDS = 60  # how long rq remembers a job that failed for good
_LOCK_SECONDS = 60
Functions = Mapping[str, Callable[..., Any]]


class NotListed(Exception):
    """A job names a function that control does not have."""


class ControlJob(Job):
    """A job of rq whose function is one of ours. See `jobs_of`."""

    functions: ClassVar[Functions] = MappingProxyType({})

    def restore(self, raw_data: Any) -> Any:
        """Read it; what could have anything else called, or anybody told, is left out.

        One that cannot be read is none: rq would end over it, again and again.
        """
        named = (b"success_callback", b"failure_callback", b"stopped_callback")
        dropped = {b"webhooks", b"dependency_ids", b"dependency_id", b"rate_limit_key"}
        kept = {
            name: value
            for name, value in raw_data.items()
            if name not in dropped and not name.startswith(named)
        }
        try:
            return super().restore(kept)
        except Exception as error:
            raise NoSuchJobError(f"{self.id}: cannot be read: {error}") from error

    @property
    def execution_registry(self) -> ExecutionRegistry:
        """Who runs it, or did."""
        return _Executions(self.id, connection=self.connection)

    @property
    def func(self) -> Callable[..., Any]:
        """What it runs. Raises NotListed."""
        name = self.func_name
        found = self.functions.get(name) if isinstance(name, str) and not self.instance else None
        if found is None:
            raise NotListed(f"{str(name)[:100]!r} is none of {', '.join(self.functions)}")
        return found


class _Executions(ExecutionRegistry):
    """Who runs a job, or did: rq's raises for a dead worker, and so fails what is done."""

    def get_executions(self, start: int = 0, end: int = -1) -> list[Execution]:
        """Those that rq still knows."""
        known = []
        for execution in self.get_execution_ids(start, end):
            with suppress(ValueError):
                known.append(Execution.fetch(execution, self.job_id, self.connection))
        return known


def jobs_of(functions: dict[str, Callable[..., Any]]) -> type[ControlJob]:
    """The class of jobs that run those functions, also those that are added later."""
    return type("ControlJob", (ControlJob,), {"functions": MappingProxyType(functions)})


class ControlQueue(Queue):
    """The one queue of control, named after the prefix of all keys. Thread-safe."""

    def __init__(self, name: str = "emo", connection: Client | None = None, **given: Any) -> None:
        given.setdefault("job_class", ControlJob)
        given["serializer"] = JSONSerializer
        super().__init__(name, connection, default_timeout=JOB_SECONDS, **given)

    def send(
        self,
        name: str,
        *args: Any,
        job_id: str,
        after_seconds: float = 0,
        retry_seconds: Sequence[int] = (),
    ) -> bool:
        """Have a listed function run, with JSON for arguments; False where that id is known yet.

        Where it raises, it is tried again after each of `retry_seconds` in turn. What is done, and
        a minute later what failed for good, is forgotten, and the id may be used again.
        """
        given: dict[str, Any] = {
            "args": args,
            "job_id": job_id,
            "timeout": JOB_SECONDS,
            "result_ttl": 0,
            "failure_ttl": _FAILED_SECONDS,
            "retry": Retry(len(retry_seconds), list(retry_seconds)) if retry_seconds else None,
            "unique": True,
        }
        try:
            if after_seconds > 0:
                self.enqueue_in(timedelta(seconds=after_seconds), name, **given)
            else:
                self.enqueue_call(name, **given)
        except DuplicateJobError:
            return False
        return True

    def acquire_maintenance_lock(self) -> bool:
        """As rq's, which keeps it for a quarter of an hour where its owner is killed."""
        taken = self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=_LOCK_SECONDS)
        return bool(taken)
