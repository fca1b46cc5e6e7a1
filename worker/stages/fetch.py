"""Fetch: from a job to the bytes of its object."""

import os
from collections.abc import Callable
from dataclasses import replace

from storage.errors import InvalidJob, JobError, ObjectTooLarge
from storage.objects.store import ObjectSource
from storage.wire.messages import RENDERED, Job
from storage.wire.parts import MOST_SEGMENTS_BYTES, SegmentAsked, parse_segments
from worker.clip import SEGMENT_BYTES, Fetched, Renditions

_ABOUT = "field 'segments_from'"


class Fetch:
    """Fetch a job's object. Thread-safe; raises what `ObjectSource.fetch` does."""

    def __init__(
        self, source: ObjectSource, *, max_object_bytes: int, admit: Callable[[int], None]
    ) -> None:
        """`admit` is told every size before the body is read; it may block."""
        self._source = source
        self._max_object_bytes = max_object_bytes
        self._admit = admit

    def __call__(self, job: Job) -> Fetched:
        """The object, behind a descriptor, which whoever takes it closes; and its segments.

        Raises InvalidJob too, where the segments that lie in an object are none.
        """
        parts = job.parts
        if parts.segments_from is not None:
            parts = replace(parts, segments=self._segments(job, parts.segments_from))
        blob = self._source.fetch(
            job.key,
            bucket=job.bucket,
            max_bytes=self._max_object_bytes,
            admit=lambda size: self._admit(size + SEGMENT_BYTES * len(parts.segments or ())),
        )
        wanted = job.want & RENDERED
        return Fetched(blob, parts, Renditions(wanted) if wanted else None)

    def _segments(self, job: Job, key: str) -> tuple[SegmentAsked, ...]:
        """The list in an object, in the same bucket."""
        try:
            listed = self._source.fetch(key, bucket=job.bucket, max_bytes=MOST_SEGMENTS_BYTES)
        except ObjectTooLarge as error:
            raise InvalidJob(
                f"{_ABOUT}: the list is larger than {MOST_SEGMENTS_BYTES} bytes: send several jobs"
            ) from error
        except JobError as error:
            raise type(error)(f"{_ABOUT}: {error}") from error
        with listed:
            text = os.pread(listed.fd, listed.size, 0)
        return parse_segments(text, about=_ABOUT)
