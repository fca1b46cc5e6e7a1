"""From what a user names, a file or a key, to an object key in the store."""

import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.objects.store import ObjectStore
from storage.wire.parts import MOST_SEGMENTS_BYTES, Parts, segments_json

UPLOAD_PREFIX = "uploads/"


@dataclass(frozen=True, slots=True)
class Source:
    """One audio object: as the user named it, its key in the store, and whether we put it there."""

    name: str
    key: str
    uploaded: bool = False


def place(
    name: str, store: ObjectStore | None, store_url: str, bucket: str | None = None
) -> Source:
    """The key of what was named. A local file is uploaded, unless it lies in the store already.

    A name that is no local file is a key. Raises JobError where the upload fails, OSError where
    the file cannot be read, ValueError where there is no store to upload it to.
    """
    if not os.path.isfile(name):  # unlike Path.is_file, no error for a key too long for a path
        return Source(name, name)
    path = Path(name)
    inside = _key_in_directory(path, store_url)
    if inside is not None:
        return Source(name, inside)
    if store is None:
        raise ValueError(f"{name} is a local file: set EMO_STORE to where it can be uploaded")
    return upload(name, path.read_bytes(), store, bucket)


def upload(name: str, data: bytes, store: ObjectStore, bucket: str | None = None) -> Source:
    """Put it under a key of its own, which still tells its name. Raises JobError."""
    key = f"{UPLOAD_PREFIX}{uuid.uuid4().hex}/{Path(name).name}"
    store.put(key, data, content_type="application/octet-stream", bucket=bucket)
    return Source(name, key, uploaded=True)


def place_segments(
    parts: Parts, store: ObjectStore | None, bucket: str | None, *, most_bytes: int
) -> Parts:
    """The parts, their list of segments uploaded where it is longer than `most_bytes`.

    Raises JobError where the upload fails, ValueError where there is no store to upload it to, or
    it is too long for any.
    """
    if parts.segments is None:
        return parts
    listed = segments_json(parts.segments).encode()
    if len(listed) <= most_bytes:
        return parts
    if len(listed) > MOST_SEGMENTS_BYTES:
        raise ValueError(
            f"the list of segments has {len(listed)} bytes, and may have {MOST_SEGMENTS_BYTES}: "
            "send it in several jobs"
        )
    if store is None:
        raise ValueError(
            f"the list of segments has {len(listed)} bytes, and a job has room for {most_bytes}: "
            "set EMO_STORE to where it can be uploaded"
        )
    key = f"{UPLOAD_PREFIX}{uuid.uuid4().hex}/segments.json"
    store.put(key, listed, content_type="application/json", bucket=bucket)
    return replace(parts, segments=None, segments_from=key)


def _key_in_directory(path: Path, store_url: str) -> str | None:
    """The key of a file that lies in a `file:///` store."""
    parts = urlsplit(store_url)
    if parts.scheme != "file":
        return None
    root = Path(unquote(parts.path)).resolve()
    resolved = path.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else None
