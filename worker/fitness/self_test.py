"""What a worker asks of itself and of its stores, to know whether it is fit for work."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from storage.errors import Internal, JobError
from storage.objects.store import ObjectStore

# With fewer left, a fetch or a decode fails as soon as others open something too.
_SPARE_DESCRIPTORS = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong. `away`: a store serves nobody; else this machine is at fault."""

    error: JobError
    away: bool = False

    @property
    def reason(self) -> str:
        """In words."""
        return str(self.error)


class SelfTest:
    """Looks at descriptors, the spool and the stores. Thread-safe.

    `check_spool` raises SpoolUnavailable where it takes no file.
    """

    def __init__(self, *, check_spool: Callable[[], None], stores: Iterable[ObjectStore]) -> None:
        stores = list(stores)
        self._local = [
            spare_descriptors,
            check_spool,
            *(store.serves for store in stores if not store.remote),
        ]
        self._remote = [store.serves for store in stores if store.remote]

    def machine(self) -> Finding | None:
        """What is wrong with this machine: descriptors, spool, mounts. Cheap; asks no server."""
        error = _first_error(self._local)
        return Finding(error) if error else None

    def everything(self) -> Finding | None:
        """That, and whether the stores serve."""
        if finding := self.machine():
            return finding
        error = _first_error(self._remote)
        return Finding(error, away=True) if error else None


def _first_error(checks: Iterable[Callable[[], None]]) -> JobError | None:
    for check in checks:
        try:
            check()
        except JobError as error:
            return error
    return None


def spare_descriptors() -> None:
    """Raise Internal where there are hardly any left."""
    with ExitStack() as opened:
        try:
            for _ in range(_SPARE_DESCRIPTORS):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise Internal(
                f"no more files can be opened ({error.strerror}): raise the limit of open files "
                "(`ulimit -n`, `LimitNOFILE=`)"
            ) from error
