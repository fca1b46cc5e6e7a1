"""Whether a store may be listed and written to: tried, and nothing stays there."""

import base64
import hashlib
import os
import secrets
import tempfile

from minio.error import InvalidResponseError, S3Error

from storage.errors import AccessDenied, JobError, StorageUnavailable
from storage.objects.directory import _FORBIDDEN, DirectoryStore
from storage.objects.s3 import PROBE_KEY, S3Store, _answer, _translated
from storage.objects.store import ObjectStore

# How servers say that a body is not what its digest says: they have asked for the rights by then.
_REFUSED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"}
_BODY = b"emostream doctor"


def try_listing(store: ObjectStore) -> None:
    """Raise AccessDenied or StorageUnavailable, saying what to do, unless it can be listed."""
    if isinstance(store, S3Store):
        with _translated(_where(store), PROBE_KEY):
            next(iter(store._client.list_objects(store._bucket, prefix=PROBE_KEY)), None)
    else:
        store.serves()  # which lists a directory


def try_writing(store: ObjectStore, prefix: str) -> str:
    """Raise as `put` does unless objects can be put below `prefix`.

    Of an S3 server, an object is asked for whose digest is wrong: it is refused after the rights
    were looked at. Where it is taken nonetheless, it is deleted; returns the key if it stays.
    """
    if isinstance(store, S3Store):
        return _try_s3(store, f"{prefix}{PROBE_KEY}-{secrets.token_hex(8)}")
    assert isinstance(store, DirectoryStore)
    _try_directory(store, prefix)
    return ""


def _try_s3(store: S3Store, key: str) -> str:
    digest = base64.b64encode(hashlib.md5(b"another", usedforsecurity=False).digest()).decode()
    client, bucket = store._client, store._bucket
    with _translated(f"{_where(store)}, key {key!r}", key):
        try:
            # The SDK has no public way to give a digest of one's own.
            client._execute("PUT", bucket, key, body=_BODY, headers={"Content-MD5": digest})
        except (S3Error, InvalidResponseError) as error:
            if _answer(error).code in _REFUSED:
                return ""
            raise
    try:
        with _translated(_where(store), key):
            client.remove_object(bucket, key)
    except JobError:
        return key
    return ""


def _try_directory(store: DirectoryStore, prefix: str) -> None:
    """Write a file without a name in the deepest directory that there is on the way."""
    with store._opened_root():
        below = store._root / prefix.rpartition("/")[0]
        place = next(path for path in (below, *below.parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=place, buffering=0) as file:
                file.write(_BODY)
        except OSError as error:
            text = f"{place}: cannot be written to ({error.strerror})"
            if error.errno in _FORBIDDEN:
                raise AccessDenied(f"{text}; give user {os.geteuid()} the right to") from error
            raise StorageUnavailable(f"{text}; look at its file system") from error


def _where(store: S3Store) -> str:
    return f"bucket {store._bucket!r} at {store._endpoint}"
