"""Objects in parts: written as their parts come, and read from where they are wanted.

`put` and `fetch` have a whole object at hand; here memory holds one part. An upload is known by its
key and an id that the store gives, so whoever notes both can go on with it after a restart.
"""

from collections.abc import Iterator
from typing import Protocol

from storage.objects.store import ObjectStore

PART_BYTES = 8 * 1024**2  # every part but the last; S3 asks for 5 MiB at least
MOST_PARTS = 10_000  # S3's limit
READ_BYTES = 256 * 1024


class Transfers(Protocol):
    """Uploads and reads in parts. Thread-safe; one upload belongs to one thread at a time.

    All raise ObjectNotFound, AccessDenied, InvalidJob, StorageUnavailable.
    """

    def begin(self, key: str) -> str:
        """Begin an upload to that key; returns its id. Nobody sees an object until `finish`.

        One that is begun again is the same in a directory; in S3 the former is left to the bucket's
        rule for incomplete uploads.
        """

    def parts(self, key: str, upload: str) -> int:
        """How many whole parts have come, from the first on. Raises ObjectNotFound."""

    def append(self, key: str, upload: str, number: int, data: bytes) -> None:
        """Store a part, counted from 0; repeating one replaces it."""

    def finish(self, key: str, upload: str, size: int) -> None:
        """Make an object of `size` bytes of the parts; repeating it is safe.

        Raises InvalidJob where the parts are not as long, and ObjectNotFound where there is
        neither such an upload nor such an object.
        """

    def abort(self, key: str, upload: str) -> None:
        """Give an upload up, and its room back; one that is gone is no error."""

    def size(self, key: str) -> int:
        """How many bytes an object has."""

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """So many bytes of an object from `start` on, some at a time."""


def transfers_of(store: ObjectStore) -> Transfers:
    """Those of an open store."""
    from storage.objects.directory import DirectoryStore  # noqa: PLC0415 (only the store in use)

    if isinstance(store, DirectoryStore):
        from storage.objects.directory_transfers import DirectoryTransfers  # noqa: PLC0415 (as it says)

        return DirectoryTransfers(store)
    from storage.objects.s3 import S3Store  # noqa: PLC0415 (the SDK takes 0.2 s to import)
    from storage.objects.s3_transfers import S3Transfers  # noqa: PLC0415 (as it says)

    assert isinstance(store, S3Store)  # there is no third
    return S3Transfers(store)
