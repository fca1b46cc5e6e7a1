"""Whether a store may be listed and written to: tried, and nothing stays there."""

import base64
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError

from storage.errors import AccessDenied, JobError, StorageUnavailable
from storage.objects.bounded_http import bounded_pool

_PROBE = "emostream-doctor"
_BODY = b"emostream doctor"
_REGION = "us-east-1"
# How servers say that a body is not what its digest says: they have asked for the rights by then.
_WRONG_DIGEST = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_Errors = (S3Error, InvalidResponseError, ServerError)


class Trial(Protocol):
    """A store to be tried. Both raise AccessDenied or StorageUnavailable, saying what is wrong."""

    def list(self) -> None:
        """List what is there, or a little of it."""

    def write(self, prefix: str) -> str:
        """Have it write below `prefix`; the key of what could not be deleted again, or ""."""


def open_trial(
    url: str, *, access_key: str, secret_key: str, region: str, timeout_seconds: float
) -> Trial:
    """Of a URL that `open_store` takes. Connects to nothing."""
    if urlsplit(url).scheme == "file":
        return _Directory(Path(unquote(urlsplit(url).path)))
    return _S3(url, access_key, secret_key, region or _REGION, timeout_seconds)


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> None:
        try:
            with os.scandir(self._root) as entries:
                next(entries, None)
        except OSError as error:
            raise _failed(self._root, "listed", error) from error

    def write(self, prefix: str) -> str:
        """A file without a name, in the deepest directory that there is on the way."""
        below = self._root / prefix.rpartition("/")[0]
        place = next(path for path in (below, *below.parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=place, buffering=0) as file:
                file.write(_BODY)
        except OSError as error:
            raise _failed(place, "written to", error) from error
        return ""


class _S3:
    def __init__(
        self, url: str, access_key: str, secret_key: str, region: str, timeout_seconds: float
    ) -> None:
        parts = urlsplit(url)
        self._bucket = parts.path.strip("/")
        self._where = f"bucket {self._bucket!r} at {parts.netloc}"
        self._client = Minio(
            parts.netloc,
            access_key=access_key or None,
            secret_key=secret_key or None,
            secure=parts.scheme == "s3s",
            region=region,
            http_client=bounded_pool(timeout_seconds=timeout_seconds, connections=1),
        )

    def list(self) -> None:
        with _translated(self._where):
            next(iter(self._client.list_objects(self._bucket, prefix=_PROBE)), None)

    def write(self, prefix: str) -> str:
        """An object whose digest is wrong: it is refused after the rights were looked at.

        Where it is taken nonetheless, it is deleted.
        """
        key = f"{prefix}{_PROBE}-{secrets.token_hex(8)}"
        digest = base64.b64encode(hashlib.md5(b"another", usedforsecurity=False).digest())
        headers: dict[str, str | list[str] | tuple[str]] = {"Content-MD5": digest.decode()}
        with _translated(self._where):
            try:
                # The SDK has no public way to give a digest of one's own.
                self._client._execute("PUT", self._bucket, key, body=_BODY, headers=headers)
            except _Errors as error:
                if _told(error)[1] in _WRONG_DIGEST:
                    return ""
                raise
        try:
            with _translated(self._where):
                self._client.remove_object(self._bucket, key)
        except JobError:
            return key
        return ""


def _failed(place: Path, what: str, error: OSError) -> JobError:
    text = f"{place}: cannot be {what} ({error.strerror})"
    if isinstance(error, PermissionError):
        return AccessDenied(f"{text}; user {os.geteuid()} has not the right")
    return StorageUnavailable(f"{text}; look at its file system")


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except _Errors as error:
        status, code = _told(error)
        said = code or f"status {status}"
        if status in _REFUSED:
            raise AccessDenied(f"{where}: refused ({said}); its keys have not the right") from error
        raise StorageUnavailable(f"{where}: not served ({said}); see the S3 server") from error
    except HTTPError as error:
        raise StorageUnavailable(f"{where}: {type(error).__name__}; see the S3 server") from error


def _told(error: S3Error | InvalidResponseError | ServerError) -> tuple[int, str]:
    """Status and S3's word for it; some servers send that in a form that the SDK does not read."""
    if isinstance(error, S3Error):
        return error.response.status, error.code or ""
    if isinstance(error, ServerError):
        return error.status_code, ""
    text = str(error)
    status, code = re.search(r"code: (\d+)", text), re.search(r"<Code>([^<]*)</Code>", text)
    return int(status[1]) if status else 0, code[1] if code else ""
