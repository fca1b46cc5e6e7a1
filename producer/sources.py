"""From what a user names, files, directories or keys, to object keys in the store."""

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.objects import ObjectStore

UPLOAD_PREFIX = "uploads/"


@dataclass(frozen=True, slots=True)
class Source:
    """One audio object: as the user named it, and its key in the store."""

    name: str
    key: str


def local_files(names: Sequence[str]) -> Iterator[str]:
    """Each name, with directories opened up to the files in them."""
    for name in names:
        if os.path.isdir(name):
            yield from (str(file) for file in sorted(Path(name).rglob("*")) if file.is_file())
        else:
            yield name


def place(name: str, store: ObjectStore | None, store_url: str) -> Source:
    """The key of what was named. A local file is uploaded, unless it lies in the store already.

    A name that is no local file is a key. Raises JobError where the upload fails, ValueError where
    a file was named and there is no store.
    """
    if not os.path.isfile(name):  # unlike Path.is_file, no error for a key too long for a path
        return Source(name, name)
    path = Path(name)
    inside = _key_in_directory(path, store_url)
    if inside is not None:
        return Source(name, inside)
    if store is None:
        raise ValueError(f"{name} is a local file: set EMO_STORE to where it can be uploaded")
    key = f"{UPLOAD_PREFIX}{uuid.uuid4().hex}/{path.name}"
    store.put(key, path.read_bytes(), content_type="application/octet-stream")
    return Source(name, key)


def _key_in_directory(path: Path, store_url: str) -> str | None:
    """The key of a file that lies in a `file:///` store."""
    parts = urlsplit(store_url)
    if parts.scheme != "file":
        return None
    root = Path(unquote(parts.path)).resolve()
    resolved = path.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else None
