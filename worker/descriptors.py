"""File descriptors: a job holds one, from the bytes of its object until its tape is done."""

import resource

import structlog

# For Redis, stores, decode processes, metrics and a GPU's driver.
_OTHERS = 256

log = structlog.get_logger(__name__)


def raise_limit() -> None:
    """Let this process have as many as it may have at all."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_jobs(wanted: int) -> int:
    """How many of the wanted jobs can be held at once; fewer is said loudly."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or wanted <= limit - _OTHERS:
        return wanted
    jobs = max(1, limit - _OTHERS)
    log.warning("worker.few_descriptors", limit=limit, jobs=jobs, wanted=wanted)
    return jobs
