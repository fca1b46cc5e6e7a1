"""How a fault ends what it happened to, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from storage.errors import DeadlineExceeded, Internal, JobError
from worker.pipeline.budget import Closed
from worker.pipeline.task import Task

log = structlog.get_logger(__name__)


@contextmanager
def ending(task: Task, stage: str) -> Iterator[None]:
    """Whatever goes wrong within ends the task, and nothing else."""
    try:
        yield
    except Exception as error:
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
