"""Calls whose faults are judged: is it the job's, or did the machine or a store fail it?"""

import errno
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from storage.errors import DecodeCrashed, Internal, JobError, OutOfMemory
from worker.fitness.breaker import Breaker
from worker.fitness.self_test import Finding

_OF_THE_FILE = (DecodeCrashed, OutOfMemory)
# What the system says when it is its own fault, most likely.
_OF_THE_MACHINE = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.ESTALE, errno.ENODEV, errno.EROFS),
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Excused(Internal):
    """The job is not to blame: it is given back. `error` is what it failed of, should it count."""

    def __init__(self, finding: Finding, error: JobError) -> None:
        super().__init__(finding.reason)
        self.finding = finding
        self.error = error


class Guard:
    """Wraps the calls that a sick machine or an absent store makes fail. Thread-safe."""

    def __init__(self, breaker: Breaker | None) -> None:
        """Without a breaker nothing is judged: there is nobody to give a job back to."""
        self._breaker = breaker

    def __call__(self, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The call, which raises Excused where its fault is not the job's."""
        breaker = self._breaker
        if breaker is None:
            return call

        def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            began = breaker.clock()
            try:
                return call(*args, **kwargs)
            except (JobError, OSError) as error:
                if _may_be_excused(error) and (finding := breaker.blame(began)):
                    counted = error if isinstance(error, JobError) else finding.error
                    raise Excused(finding, counted) from error
                raise

        return guarded

    def unless_open(self, call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The same, but not even tried while the breaker is open: each may take a minute."""
        breaker, watched = self._breaker, self(call)
        if breaker is None:
            return call

        def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            if finding := breaker.finding:
                raise Excused(finding, finding.error)
            return watched(*args, **kwargs)

        return guarded


UNGUARDED = Guard(None)


def _may_be_excused(error: JobError | OSError) -> bool:
    if isinstance(error, JobError):
        return error.retryable and not isinstance(error, _OF_THE_FILE)
    return error.errno in _OF_THE_MACHINE
