"""The first stage: from a job to the bytes of its object."""

from collections.abc import Callable

from storage.objects.blob import Blob
from storage.objects.store import ObjectSource
from storage.wire.messages import Job


class Fetch:
    """Fetch a job's object. Thread-safe; raises what `ObjectSource.fetch` does."""

    def __init__(
        self, source: ObjectSource, *, max_object_bytes: int, admit: Callable[[int], None]
    ) -> None:
        """`admit` is told every size before the body is read; it may block."""
        self._source = source
        self._max_object_bytes = max_object_bytes
        self._admit = admit

    def __call__(self, job: Job) -> Blob:
        """The object, behind a descriptor; whoever takes it closes it."""
        return self._source.fetch(
            job.key,
            bucket=job.bucket,
            max_bytes=self._max_object_bytes,
            admit=self._admit,
        )
