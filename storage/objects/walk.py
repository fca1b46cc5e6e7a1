"""The files below a directory in the order of their keys, however many there are."""

import heapq
import os
from collections.abc import Iterator
from pathlib import Path

from storage.objects.store import StoredObject

TEMPORARY = ".emostream-"  # begins the names of files that are being written
_AT_ONCE = 10_000  # names of one directory that are in memory


def walk(root: Path, prefix: bytes, after: bytes) -> Iterator[StoredObject]:
    """Those whose keys begin with `prefix` and come after `after`. Raises OSError."""
    # The directory that the prefix names is gone into by itself.
    start = prefix[: prefix.rfind(b"/") + 1]
    yield from _below(os.fsencode(root), start, prefix, after)


def _below(root: bytes, start: bytes, prefix: bytes, after: bytes) -> Iterator[StoredObject]:
    """The same, of the directory whose keys begin with `start`."""
    floor = b""
    while True:
        wanted = (each for each in _entries(root, start, prefix, after) if each > floor)
        found = heapq.nsmallest(_AT_ONCE, wanted)
        for entry in found:
            key = start + entry
            if entry.endswith(b"/"):
                yield from _below(root, key, prefix, after)
                continue
            try:
                status = os.stat(os.path.join(root, key))
            except FileNotFoundError:  # deleted meanwhile
                continue
            yield StoredObject(os.fsdecode(key), status.st_size, status.st_mtime)
        if len(found) < _AT_ONCE:
            return
        floor = found[-1]


def _entries(root: bytes, start: bytes, prefix: bytes, after: bytes) -> Iterator[bytes]:
    """The names in one directory, in any order; those of directories end with a slash."""
    try:
        entries = os.scandir(os.path.join(root, start))
    except (FileNotFoundError, NotADirectoryError):  # there is nothing of that prefix
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                key = start + entry.name + b"/"
                if (key > after or after.startswith(key)) and (
                    key.startswith(prefix) or prefix.startswith(key)
                ):
                    yield entry.name + b"/"
            elif (
                start + entry.name > after
                and (start + entry.name).startswith(prefix)
                and not entry.name.startswith(TEMPORARY.encode())
                and entry.is_file()
            ):
                yield entry.name
