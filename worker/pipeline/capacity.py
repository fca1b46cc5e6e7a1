"""How many jobs a worker holds at once.

Enough that its tapes are full, and no more than it has file descriptors for: a job holds one, from
the bytes of its object until its tape is done.
"""

import resource

import structlog

_LEAST_JOBS = 256
_SHORT_CLIP_SLOTS = 85  # 1.5 s
# Descriptors for Redis, outputs, the log, libraries and a GPU's driver.
_OTHERS = 160
# Of a decode process: its socket, its handle, its spool file, what it has decoded, and what that is
# resampled to.
_DECODE_DESCRIPTORS = 5

log = structlog.get_logger(__name__)


def jobs_for(tape_slots: int) -> int:
    """Jobs to hold at once, so that a device with tapes of this length never waits for clips.

    With clips of 1.5 s each: one tape that runs, one behind it, one that is being filled, and as
    many clips again on their way there.
    """
    return max(_LEAST_JOBS, 4 * tape_slots // _SHORT_CLIP_SLOTS)


def descriptors_of(fetch_threads: int, decode_processes: int) -> int:
    """What so many of both take at the same time, besides what a job holds."""
    return fetch_threads + _DECODE_DESCRIPTORS * decode_processes  # a connection each


def raise_limit() -> None:
    """Let this process have as many descriptors as it may have at all."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def affordable_jobs(wanted: int, *, beside: int) -> int:
    """How many of the wanted jobs can be held at once; fewer is said loudly.

    `beside`: the descriptors that stages and the health port may take at the same time.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or wanted <= limit - _OTHERS - beside:
        return wanted
    jobs = max(1, limit - _OTHERS - beside)
    log.warning("worker.few_descriptors", limit=limit, jobs=jobs, wanted=wanted)
    return jobs
