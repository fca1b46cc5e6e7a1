"""How a fault ends what it happened to, and nothing else."""

import structlog

from storage.errors import DeadlineExceeded, Internal, JobError
from worker.pipeline.budget import Closed
from worker.pipeline.task import Task

log = structlog.get_logger(__name__)


def end(task: Task, stage: str, error: Exception) -> None:
    """What went wrong in a stage ends the task, and nothing else."""
    task.error = as_job_error(error, stage, job=task.job.id)


def as_job_error(error: Exception, stage: str, **about: object) -> JobError:
    """The error as a JobError; one that is none is a bug of ours, and logged."""
    if isinstance(error, JobError):
        return error
    if isinstance(error, Closed):
        return Internal("the worker is stopping")
    log.error("stage.failed", stage=stage, exc_info=error, **about)
    return Internal(f"{stage}: {type(error).__name__}: {error}")


def require_wanted(task: Task) -> None:
    """Raise DeadlineExceeded where nobody waits for the task any more."""
    if task.abandoned or task.expired():
        raise DeadlineExceeded("the deadline passed before it was done")
