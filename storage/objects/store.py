"""Object stores: where the audio is read from and outputs are written to."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from storage.objects.blob import Blob

_FORMS = "write s3://host:port/bucket, s3s://… or file:///directory"


class ObjectSource(Protocol):
    """Objects by key, to be read. Thread-safe; shared by every thread of a process."""

    def fetch(
        self,
        key: str,
        *,
        bucket: str | None = None,
        max_bytes: int,
        admit: Callable[[int], None] | None = None,
    ) -> Blob:
        """Open the object; `bucket` stands in for the store's own.

        `admit` is called at most once, with the size in bytes, after the size was found to be
        allowed and before the body is read. It may block: that time is not counted as waiting for
        the store. A fetch that fails later does not take the call back; its caller does.

        Raises ObjectNotFound, ObjectTooLarge, AccessDenied, InvalidJob, StorageUnavailable,
        StageTimeout.
        """


class Put(Protocol):
    """Stores an object."""

    def __call__(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        content_type: str,
        bucket: str | None = None,
    ) -> None:
        """Store `data` under the key, all of it or nothing. Raises as `fetch` does."""


class ObjectStore(ObjectSource, Protocol):
    """Objects by key, to be read and written. Thread-safe, as its source is."""

    @property
    def remote(self) -> bool:
        """Whether it fails for everybody; else its faults are those of this machine."""

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        content_type: str,
        bucket: str | None = None,
    ) -> None:
        """Store `data` under the key, all of it or nothing. Raises as `fetch` does."""

    def check(self) -> None:
        """Raise AccessDenied or StorageUnavailable, saying what to do, unless it can be read."""

    def serves(self) -> None:
        """Raise StorageUnavailable unless it answers now; to be refused is an answer."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a list has it; when it was written, in unix seconds."""

    key: str
    size_bytes: int
    modified_s: float


class ManagedStore(ObjectStore, Protocol):
    """A store whose objects can also be listed, written from files and deleted."""

    def put_file(
        self, key: str, path: Path, *, content_type: str, bucket: str | None = None
    ) -> None:
        """As `put`, of a file that need not fit memory. Raises OSError where it cannot be read."""

    def list(
        self, prefix: str, *, after: str = "", bucket: str | None = None
    ) -> Iterator[StoredObject]:
        """The objects whose keys begin with `prefix` and come after `after`.

        In the order of their keys as UTF-8, a part at a time: memory is bounded, and whoever goes
        on after a key that was given misses none that was there. Raises as `fetch` does.
        """

    def delete(self, key: str, *, bucket: str | None = None) -> None:
        """Delete the object; none of that key is no error. Raises as `fetch` does."""


def open_store(
    url: str,
    *,
    access_key: str = "",
    secret_key: str = "",
    region: str = "",
    timeout_seconds: float = 60,
    connections: int = 32,
    buckets: Collection[str] | None = None,
) -> ManagedStore:
    """The store that `s3://host:port/bucket`, `s3s://…` (TLS) or `file:///directory` names.

    Objects of its own bucket and of `buckets` can be fetched; where that is None, of any. Connects
    to nothing. Raises ValueError where the URL cannot be understood; the message quotes nothing of
    it, since keys that were put there by mistake may stand anywhere.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{_FORMS}, with an IPv6 address in brackets") from error
    if parts.query or parts.fragment:
        raise ValueError("write '?' and '#' in a store's name as %3F and %23")
    match parts.scheme:
        case "file":
            from storage.objects.directory import DirectoryStore  # noqa: PLC0415 (only the store in use)

            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError("the directory must be absolute: file:///directory")
            return DirectoryStore(Path(unquote(parts.path)))
        case "s3" | "s3s":
            from storage.objects.s3 import S3Store  # noqa: PLC0415 (the SDK takes 0.2 s to import)

            form = f"{parts.scheme}://host:port/bucket"
            if "@" in parts.netloc or bool(access_key) != bool(secret_key):
                raise ValueError(
                    "credentials belong in EMO_S3_ACCESS_KEY and EMO_S3_SECRET_KEY, in both or in"
                    " neither"
                )
            bucket = parts.path.strip("/")
            if not parts.hostname or not bucket or "/" in bucket:
                raise ValueError(f"write {form}")
            try:
                return S3Store(
                    parts.netloc,
                    bucket,
                    secure=parts.scheme == "s3s",
                    access_key=access_key,
                    secret_key=secret_key,
                    region=region,
                    timeout_seconds=timeout_seconds,
                    connections=connections,
                    buckets=buckets,
                )
            except ValueError as error:
                raise ValueError(
                    f"write {form}: a port of digits, and a bucket's name as S3 allows it, of 3 to"
                    " 63 letters, digits, dots and hyphens"
                ) from error
        case _:
            raise ValueError(_FORMS)
