"""What an S3 server's refusals, and faults on the way to it, mean for a job."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from http import HTTPStatus
from xml.etree import ElementTree

from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    StorageUnavailable,
)
from storage.objects.plain_get import Broken

_NOT_FOUND = {"NoSuchKey", "NoSuchBucket", "KeyTooLongError", "InvalidBucketName"}
_INVALID_KEY = {"InvalidObjectName", "XMinioInvalidObjectName", "InvalidURI"}
_DENIED = {  # with status 400; the last is rclone's for a request without a signature
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "UnsupportedAlgorithm",
}


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """An error as the server told it; `code` is S3's word for it, where it gave one."""

    status: int
    code: str
    message: str

    @property
    def text(self) -> str:
        """It in one line."""
        return ": ".join(filter(None, [self.code or f"status {self.status}", self.message]))


def answer_to(error: S3Error | InvalidResponseError | ServerError) -> ServerAnswer:
    """What the server answered, by the SDK's error."""
    if isinstance(error, S3Error):
        return ServerAnswer(error.response.status, error.code or "", error.message or "")
    if isinstance(error, ServerError):
        return ServerAnswer(error.status_code, "", "")
    # Some servers send S3's XML as text/xml, which the SDK does not read. These attributes have
    # no public names.
    return answer_of(error._code, error._body or "")


def answer_of(status: int, body: str) -> ServerAnswer:
    """An error by its status, and by its body where that is S3's."""
    code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", body) for tag in ("Code", "Message"))
    told = [unescape(found[1]) if found else "" for found in (code, message)]
    return ServerAnswer(status, *told)


def _is_odd(key: str) -> bool:
    """Whether some servers have no such keys: those that keep objects as files."""
    return key.startswith("/") or "//" in key


def verdict(where: str, answer: ServerAnswer, key: str) -> JobError:
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
        raise verdict(where, answer_to(error), key) from error
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
