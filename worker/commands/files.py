"""Classify files without Redis: the same pipeline, all files as one workload."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import AccessDenied, Internal, JobError, ObjectNotFound, ObjectTooLarge
from storage.objects.blob import Blob
from storage.wire.messages import Job, Want
from storage.wire.parts import WHOLE, Parts
from worker.assembly.stages import assemble
from worker.audio.room import Spool
from worker.engine.engine import Engine
from worker.pipeline.task import Task
from worker.settings import WorkerSettings
from worker.stages.infer import Classified
from worker.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class FileResult:
    """What came of one file: a classification or an error."""

    file: str
    classified: Classified | None
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every file."""

    want: frozenset[Want] = frozenset({Want.SCORES})
    parts: Parts = WHOLE


NOTHING_MORE = Asked()


class LocalFiles:
    """Objects whose keys are paths, for files that the user named: nothing to escape from."""

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


def classify(
    settings: WorkerSettings, engine: Engine, files: Sequence[str], asked: Asked = NOTHING_MORE
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
        Spool(Path(settings.spool_dir), settings.spool_bytes),
        settle=settle,
        metrics=Metrics(),
        device_lost=lambda: ready.put(None),
    )
    pipeline = assembly.pipeline

    unsent = deque(enumerate(files))
    open_files = 0
    try:
        pipeline.start()
        while unsent or open_files:
            if not open_files:
                pipeline.wait_for_room(1)
            while unsent and pipeline.room():
                number, file = unsent.popleft()
                job = Job(str(number), file, want=asked.want, parts=asked.parts)
                pipeline.submit(Task(job, value=job, ticket=file))
                open_files += 1
            result = ready.get()
            if result is None:
                raise Internal(f"{engine.model.device} answers no more; start again")
            open_files -= 1
            yield result
    finally:
        assembly.close()
