"""Transfers to and from a directory: a hidden file beside the object's, renamed at the end."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from storage.errors import InvalidJob, ObjectNotFound
from storage.objects.directory import DirectoryStore
from storage.objects.transfers import PART_BYTES, READ_BYTES
from storage.objects.walk import TEMPORARY

_PREFIX = f"{TEMPORARY}upload-"


class DirectoryTransfers:
    """See `Transfers`."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store

    def begin(self, key: str) -> str:
        """See `Transfers.begin`. Of a key there is one: begun anew, it goes on."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._store.place(key) as (directory, _):
            # Whoever began it may have died before the id was noted: then this must find it again.
            upload = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
            os.close(os.open(_temporary(upload), flags, 0o666, dir_fd=directory))
        return upload

    def parts(self, key: str, upload: str) -> int:
        """See `Transfers.parts`."""
        with self._store.place(key) as (directory, _):
            size = _size(directory, upload)
        if size is None:
            raise ObjectNotFound(f"{key}: its upload is gone; begin it again")
        return size // PART_BYTES

    def append(self, key: str, upload: str, number: int, data: bytes) -> None:
        """See `Transfers.append`."""
        with self._store.place(key) as (directory, _):
            size = _size(directory, upload)
            if size is None:
                raise ObjectNotFound(f"{key}: its upload is gone; begin it again")
            if number * PART_BYTES > size:
                raise InvalidJob(f"{key}: part {number} has come before those in front of it")
            out = os.open(_temporary(upload), os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
            try:
                at, rest = number * PART_BYTES, memoryview(data)
                while rest:
                    written = os.pwrite(out, rest, at)
                    at, rest = at + written, rest[written:]
            finally:
                os.close(out)

    def finish(self, key: str, upload: str, size: int) -> None:
        """See `Transfers.finish`."""
        with self._store.place(key) as (directory, name):
            found = _size(directory, upload)
            if found == size:
                os.replace(_temporary(upload), name, src_dir_fd=directory, dst_dir_fd=directory)
        if found is None and self.size(key) != size:
            raise ObjectNotFound(f"{key}: its upload is gone; begin it again")
        if found is not None and found != size:
            raise InvalidJob(f"{key}: {found} bytes have come, not {size}; send the rest first")

    def abort(self, key: str, upload: str) -> None:
        """See `Transfers.abort`."""
        with self._store.place(key) as (directory, _), suppress(FileNotFoundError):
            os.unlink(_temporary(upload), dir_fd=directory)
        _leave(self._store.root / key)

    def size(self, key: str) -> int:
        """See `Transfers.size`."""
        with self._store.fetch(key, max_bytes=2**63) as blob:
            return blob.size

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        """See `Transfers.read`."""
        with self._store.fetch(key, max_bytes=2**63) as blob:
            at, end = start, start + length
            while at < end and (data := os.pread(blob.fd, min(READ_BYTES, end - at), at)):
                yield data
                at += len(data)


def _temporary(upload: str) -> str:
    if not upload.isalnum():
        raise InvalidJob(f"{upload[:40]!r}: is no upload's id")
    return f"{_PREFIX}{upload}"


def _size(directory: int, upload: str) -> int | None:
    try:
        return os.stat(_temporary(upload), dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def _leave(file: Path) -> None:
    """Remove the directory that was made for it, where nothing else is in it."""
    with suppress(OSError):
        file.parent.rmdir()
