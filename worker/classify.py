"""Classify files without Redis: the same pipeline, all files as one workload."""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.blob import Blob
from storage.errors import AccessDenied, Internal, JobError, ObjectNotFound, ObjectTooLarge
from storage.messages import Job, Want
from worker.app import assemble
from worker.engine import Engine
from worker.metrics import Metrics
from worker.settings import WorkerSettings
from worker.stages.infer import Classified
from worker.task import Task


@dataclass(frozen=True, slots=True)
class FileResult:
    """What came of one file: a classification or an error."""

    file: str
    classified: Classified | None
    error: JobError | None


class LocalFiles:
    """An object store of paths, for files that the user named: nothing to escape from."""

    def fetch(
        self,
        key: str,
        *,
        bucket: str | None = None,
        max_bytes: int,
        admit: Callable[[int], None] | None = None,
    ) -> Blob:
        """Open the file. Raises ObjectNotFound, AccessDenied, ObjectTooLarge."""
        try:
            blob = Blob.open(key)
        except FileNotFoundError as error:
            raise ObjectNotFound(f"there is no file {key}") from error
        except PermissionError as error:
            raise AccessDenied(f"{key} may not be read by this user") from error
        except (OSError, ValueError) as error:
            raise ObjectNotFound(f"{error}") from error
        if blob.size > max_bytes:
            blob.close()
            raise ObjectTooLarge(f"{key} holds {blob.size} bytes; EMO_MAX_OBJECT_BYTES={max_bytes}")
        if admit is not None:
            admit(blob.size)
        return blob

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        content_type: str,
        bucket: str | None = None,
    ) -> None:
        """Classifying files writes nothing."""
        raise AccessDenied(f"{key}: files are only read here")

    def check(self) -> None:
        """There is nothing to reach."""


def classify(
    settings: WorkerSettings, engine: Engine, files: Sequence[str]
) -> Iterator[FileResult]:
    """Yield each file's result as it is ready, in any order.

    Raises OutOfMemory or Internal where the model cannot be run at all.
    """
    ready: queue.SimpleQueue[FileResult | None] = queue.SimpleQueue()

    def settle(tasks: Sequence[Task]) -> None:
        for task in tasks:
            classified = None if task.error else task.value
            ready.put(FileResult(task.ticket, classified, task.error))

    assembly = assemble(
        settings,
        engine,
        LocalFiles(),
        settle=settle,
        metrics=Metrics(),
        device_lost=lambda: ready.put(None),
    )
    pipeline = assembly.pipeline

    def submit_all() -> None:
        for number, file in enumerate(files):
            if not pipeline.wait_for_room(1):
                return  # closed: whoever asked has gone
            job = Job(str(number), os.fspath(Path(file)), want=frozenset({Want.SCORES}))
            pipeline.submit(Task(job, value=job, ticket=file))

    try:
        pipeline.start()
        threading.Thread(target=submit_all, name="submit", daemon=True).start()
        for _ in files:
            result = ready.get()
            if result is None:
                raise Internal(f"{engine.model.device} answers no more; start again")
            yield result
    finally:
        assembly.close()
