"""An S3 server as an object store, by the minio SDK; what it signs is fetched by `plain_get`."""

import io
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from http import HTTPStatus
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from minio.helpers import check_bucket_name
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ReadTimeoutError

from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    ObjectTooLarge,
    StageTimeout,
    StorageUnavailable,
)
from storage.objects.blob import Blob
from storage.objects.bounded_http import bounded_pool
from storage.objects.plain_get import Answer, Broken, PlainGets

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer  # exists for type checkers only

_SIGNED_FOR = timedelta(minutes=15)
PART_BYTES = 64 * 1024 * 1024  # larger outputs go up in parts
# Servers cut off who reads nothing for long: the usual ones wait for ten seconds and more.
_IDLE_SECONDS = 5.0
PROBE_KEY = "emostream-probe"  # `check` and `serves` ask for it; it need not exist

_NOT_FOUND = {"NoSuchKey", "NoSuchBucket", "KeyTooLongError", "InvalidBucketName"}
_INVALID_KEY = {"InvalidObjectName", "XMinioInvalidObjectName", "InvalidURI"}
_DENIED = {  # with status 400; the last is rclone's for a request without a signature
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "UnsupportedAlgorithm",
}


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
                part_size=PART_BYTES,
                num_parallel_uploads=1,  # the SDK would start threads of its own
            )

    def check(self) -> None:
        """See `ObjectStore.check`. Asks for an object, so the rights to fetch are enough."""
        where = f"bucket {self.bucket!r} at {self._endpoint}"
        with translated(where, PROBE_KEY):
            try:
                response = self.client.get_object(self.bucket, PROBE_KEY)
            except (S3Error, InvalidResponseError) as error:
                answer = _answer(error)
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
        with translated(where, key):
            # Arithmetic alone, but for a region that is not known yet.
            url = self.client.presigned_get_object(bucket, key, expires=_SIGNED_FOR)
        with ExitStack() as asked:
            with translated(where, key):
                answer = asked.enter_context(self._gets.ask(url))
                if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise _verdict(where, _answer_of(answer.status, answer.text()), key)
            if answer.status != HTTPStatus.OK or answer.length is None:
                raise StorageUnavailable(
                    f"{where}: status {answer.status} and length {answer.length} are no whole"
                    " object; look for a proxy in between"
                )
            yield answer, answer.length


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


@dataclass(frozen=True, slots=True)
class _Answer:
    """An error as the server told it; `code` is S3's word for it, where it gave one."""

    status: int
    code: str
    message: str

    @property
    def text(self) -> str:
        return ": ".join(filter(None, [self.code or f"status {self.status}", self.message]))


def _answer(error: S3Error | InvalidResponseError | ServerError) -> _Answer:
    if isinstance(error, S3Error):
        return _Answer(error.response.status, error.code or "", error.message or "")
    if isinstance(error, ServerError):
        return _Answer(error.status_code, "", "")
    # Some servers send S3's XML as text/xml, which the SDK does not read. These attributes have
    # no public names.
    return _answer_of(error._code, error._body or "")


def _answer_of(status: int, body: str) -> _Answer:
    """An error by its status, and by its body where that is S3's."""
    code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", body) for tag in ("Code", "Message"))
    told = [unescape(found[1]) if found else "" for found in (code, message)]
    return _Answer(status, *told)


def _is_odd(key: str) -> bool:
    """Whether some servers have no such keys: those that keep objects as files."""
    return key.startswith("/") or "//" in key


def _verdict(where: str, answer: _Answer, key: str) -> JobError:
    """What the server's answer means for the job."""
    # Of a key like any other, `InvalidArgument` tells of the request: the server is set up wrongly.
    if answer.code in _INVALID_KEY or (answer.code == "InvalidArgument" and _is_odd(key)):
        return InvalidJob(f"{where}: no key for this server ({answer.text}); correct the job")
    if answer.code in _NOT_FOUND or answer.status == HTTPStatus.NOT_FOUND:
        return ObjectNotFound(f"{where}: there is none ({answer.text}); correct the job")
    if answer.code in _DENIED or answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AccessDenied(
            f"{where}: refused ({answer.text}); check EMO_S3_ACCESS_KEY, EMO_S3_SECRET_KEY,"
            " EMO_S3_REGION, and that they may read and list the bucket"
        )
    return StorageUnavailable(f"{where}: not served ({answer.text}); look at the S3 server")


@contextmanager
def translated(
    where: str, key: str, *, timeout: type[JobError] = StorageUnavailable
) -> Iterator[None]:
    """Turn what the SDK, urllib3 and `PlainGets` raise into what it means for the job."""
    try:
        yield
    except (S3Error, InvalidResponseError, ServerError) as error:
        raise _verdict(where, _answer(error), key) from error
    except (HTTPError, Broken) as error:
        late = isinstance(error, ReadTimeoutError) or (
            isinstance(error, Broken) and not error.in_time
        )
        kind = timeout if late else StorageUnavailable
        raise kind(
            f"{where}: {error}; check EMO_STORE and its server, or raise EMO_FETCH_TIMEOUT_SECONDS"
        ) from error
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise StorageUnavailable(
            f"{where}: the answer is not S3's ({error}); check EMO_STORE"
        ) from error
    except ValueError as error:  # the SDK looks at names before it asks the server
        raise InvalidJob(
            f"{where}: no S3 name ({error or 'it is blank'}); correct the job"
        ) from error
