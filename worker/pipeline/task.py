"""`Task`: one job on its way through the stages, and what is known of it so far."""

import time
from dataclasses import dataclass, field
from typing import Any

from storage.errors import JobError
from storage.wire.messages import Job


@dataclass(slots=True, eq=False)
class Task:
    """A job in flight. Owned by one stage thread at a time; the pipeline hands it on.

    `value` is what the last stage made of it, `error` what ended it early. `ticket` belongs to
    whoever submitted the task; the pipeline does not look at it.
    """

    job: Job
    value: Any
    ticket: Any = None
    error: JobError | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    charged_bytes: int = 0
    inferring_since: float = 0.0
    batch_clips: int = 0
    # Nothing else is in the pipeline: a suspect.
    alone: bool = False
    # Set by any thread: the entry is no longer ours, so nobody waits for the result.
    abandoned: bool = False
    # When it was begun, by the monotonic clock.
    began_at: float = field(default_factory=time.monotonic)
    # When the stage that works on it must be done; None while it waits in a queue.
    overdue_at: float | None = None

    def overdue(self, now: float) -> bool:
        """Whether a stage has worked on it for longer than it may."""
        return self.overdue_at is not None and now > self.overdue_at

    def expired(self) -> bool:
        """Whether the job's deadline has passed."""
        return self.job.deadline_ms is not None and self.job.deadline_ms < time.time() * 1000

    def release(self) -> None:
        """Close what the last stage left behind, where it needs closing."""
        close = getattr(self.value, "close", None)
        self.value = None
        if close is not None:
            close()
