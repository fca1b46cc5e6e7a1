"""The workers that share these jobs: whether they are the same, and well."""

from worker.doctor.findings import Category
from worker.settings import WorkerSettings


def workers(settings: WorkerSettings) -> Category:
    """The checks."""
    return Category("workers", ())
