"""An S3 server as an object store, by the minio SDK; what it signs is fetched by `plain_get`."""

import io
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from minio import Minio
from minio.datatypes import Object
from minio.error import InvalidResponseError, S3Error
from minio.helpers import check_bucket_name
from urllib3 import BaseHTTPResponse

from storage.errors import (
    AccessDenied,
    ObjectNotFound,
    ObjectTooLarge,
    StageTimeout,
    StorageUnavailable,
)
from storage.objects.blob import Blob
from storage.objects.bounded_http import bounded_pool
from storage.objects.plain_get import Answer, PlainGets
from storage.objects.s3_errors import answer_of, answer_to, translated, verdict
from storage.objects.store import StoredObject

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only

_SIGNED_FOR = timedelta(minutes=15)
_OUTPUT_PART_BYTES = 64 * 1024 * 1024  # larger outputs go up in parts
_FILE_PART_BYTES = 8 * 1024 * 1024  # files go up in such, of which one is in memory
_MOST_PARTS = 10_000  # S3's limit
# Servers cut off who reads nothing for long: the usual ones wait for ten seconds and more.
_IDLE_SECONDS = 5.0
PROBE_KEY = "emostream-probe"  # `check` and `serves` ask for it; it need not exist


class _Reading(io.RawIOBase):
    """Bytes to be read, without a copy of them all: they may be hours of audio in a mapped file."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._rest = memoryview(data).cast("B")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer)
        part, self._rest = self._rest[: room.nbytes], self._rest[room.nbytes :]
        room[: part.nbytes] = part
        return part.nbytes


class S3Store:
    """See `ObjectStore`. Connections are kept and used again.

    One GET for each fetch; another where the first has waited for long to be admitted.
    """

    remote = True

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        secure: bool,
        access_key: str,
        secret_key: str,
        region: str,
        timeout_seconds: float,
        connections: int,
        buckets: Collection[str] | None = None,
    ) -> None:
        """`endpoint` is `host[:port]`. Without keys, requests are anonymous. Raises ValueError.

        Objects of its own bucket and of `buckets` can be fetched; where that is None, of any.
        """
        check_bucket_name(bucket)
        self._readable = None if buckets is None else {bucket, *buckets}
        self._endpoint = endpoint
        self.bucket = bucket
        # Without a region the SDK asks every server for it first; Amazon's is in its host names.
        host = endpoint.partition(":")[0]
        self.client = Minio(
            endpoint,
            access_key=access_key or None,
            secret_key=secret_key or None,
            secure=secure,
            region=region or (None if host.endswith(".amazonaws.com") else "us-east-1"),
            http_client=bounded_pool(timeout_seconds=timeout_seconds, connections=connections),
        )
        self._gets = PlainGets(timeout_seconds=timeout_seconds, connections=connections)

    def fetch(
        self,
        key: str,
        *,
        bucket: str | None = None,
        max_bytes: int,
        admit: Callable[[int], None] | None = None,
    ) -> Blob:
        """See `ObjectStore.fetch`."""
        bucket = bucket or self.bucket
        where = f"bucket {bucket!r}, key {key!r}"
        if self._readable is not None and bucket not in self._readable:
            raise AccessDenied(f"{where}: no bucket of this store; add it to EMO_BUCKETS")
        with self._asked(bucket, key, where) as (response, size):
            if size > max_bytes:
                raise ObjectTooLarge(
                    f"{where}: {size} bytes; EMO_MAX_OBJECT_BYTES allows {max_bytes}"
                )
            began = time.monotonic()
            if admit is not None:
                admit(size)
            if time.monotonic() < began + _IDLE_SECONDS:
                with translated(where, key, timeout=StageTimeout):
                    return _read(response, size)
        # It may have hung up meanwhile, which would be no fault of the job's.
        with self._asked(bucket, key, where) as (response, size_now):
            if size_now != size:
                raise StorageUnavailable(f"{where}: was replaced meanwhile, so it is tried again")
            with translated(where, key, timeout=StageTimeout):
                return _read(response, size)

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        content_type: str,
        bucket: str | None = None,
    ) -> None:
        """See `ObjectStore.put`."""
        bucket = bucket or self.bucket
        with translated(f"bucket {bucket!r}, key {key!r}", key):
            self.client.put_object(
                bucket,
                key,
                io.BufferedReader(_Reading(data)),
                length=memoryview(data).nbytes,
                content_type=content_type,
                part_size=_OUTPUT_PART_BYTES,
                num_parallel_uploads=1,  # the SDK would start threads of its own
            )

    def put_file(
        self, key: str, path: Path, *, content_type: str, bucket: str | None = None
    ) -> None:
        """See `ManagedStore.put_file`."""
        bucket = bucket or self.bucket
        with path.open("rb") as file, translated(f"bucket {bucket!r}, key {key!r}", key):
            length = os.fstat(file.fileno()).st_size
            self.client.put_object(
                bucket,
                key,
                file,
                length=length,
                content_type=content_type,
                part_size=max(_FILE_PART_BYTES, -(-length // _MOST_PARTS)),
                num_parallel_uploads=1,
            )

    def list(
        self, prefix: str, *, after: str = "", bucket: str | None = None
    ) -> Iterator[StoredObject]:
        """See `ManagedStore.list`. A thousand keys a request."""
        bucket = bucket or self.bucket
        where = f"bucket {bucket!r}, prefix {prefix!r}"
        last = after.encode()
        with translated(where, prefix):
            check_bucket_name(bucket)
            listed = self.client.list_objects(
                bucket, prefix=prefix, recursive=True, start_after=after or None
            )
            for found in _of_s3(listed, where):
                key = found.object_name or ""
                if key.encode() <= last:
                    raise StorageUnavailable(
                        f"{where}: the server does not list keys in their order, so a list cannot "
                        "be resumed (an S3 directory bucket?); name the keys in a manifest"
                    )
                last = key.encode()
                modified = found.last_modified.timestamp() if found.last_modified else 0.0
                yield StoredObject(key, found.size or 0, modified)

    def delete(self, key: str, *, bucket: str | None = None) -> None:
        """See `ManagedStore.delete`."""
        bucket = bucket or self.bucket
        with translated(f"bucket {bucket!r}, key {key!r}", key), suppress(ObjectNotFound):
            self.client.remove_object(bucket, key)

    def check(self) -> None:
        """See `ObjectStore.check`. Asks for an object, so the rights to fetch are enough."""
        where = f"bucket {self.bucket!r} at {self._endpoint}"
        with translated(where, PROBE_KEY):
            try:
                response = self.client.get_object(self.bucket, PROBE_KEY)
            except (S3Error, InvalidResponseError) as error:
                answer = answer_to(error)
                if answer.code == "NoSuchKey":
                    return
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise StorageUnavailable(
                        f"{where}: there is none ({answer.text}); create it, or correct EMO_STORE"
                    ) from error
                raise
        with _released(response):
            pass  # somebody did store an object of that name

    def serves(self) -> None:
        """See `ObjectStore.serves`."""
        with suppress(ObjectNotFound, AccessDenied, ObjectTooLarge):
            self.fetch(PROBE_KEY, max_bytes=0).close()

    @contextmanager
    def _asked(self, bucket: str, key: str, where: str) -> Iterator[tuple[Answer, int]]:
        """The answer to a GET, its body not read yet, and how long that is."""
        with ExitStack() as asked:
            with translated(where, key):
                # Arithmetic alone, but for a region that is not known yet.
                url = self.client.presigned_get_object(bucket, key, expires=_SIGNED_FOR)
                answer = asked.enter_context(self._gets.ask(url))
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise verdict(where, answer_of(answer.status, answer.text()), key)
            if answer.status != HTTPStatus.OK or answer.length is None:
                raise StorageUnavailable(
                    f"{where}: status {answer.status} and length {answer.length} are no whole"
                    " object; look for a proxy in between"
                )
            yield answer, answer.length


def _of_s3(listed: Iterator[Object], where: str) -> Iterator[Object]:
    """What is listed. Raises StorageUnavailable where the SDK cannot read the answer."""
    try:
        yield from listed
    except (ValueError, TypeError) as error:
        raise StorageUnavailable(
            f"{where}: the answer is not S3's ({error}); check EMO_STORE"
        ) from error


def _read(answer: Answer, size: int) -> Blob:
    """Copy the body, `size` bytes, into a memfd."""
    blob = Blob(os.memfd_create("object"), size)
    try:
        answer.copy_to(blob.fd)
    except BaseException:
        blob.close()
        raise
    return blob


@contextmanager
def _released(response: BaseHTTPResponse) -> Iterator[None]:
    """Give the connection back; one with an unread body is closed first."""
    try:
        yield
    finally:
        response.close()
        response.release_conn()
