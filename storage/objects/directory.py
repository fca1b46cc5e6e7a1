"""A directory as an object store: keys are paths below its root, and no path leaves it."""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    ObjectTooLarge,
    StorageUnavailable,
)
from storage.objects.blob import Blob, write_all
from storage.objects.store import StoredObject
from storage.objects.walk import TEMPORARY, walk

_COPIED_BYTES = 1024**2
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.EROFS}


class DirectoryStore:
    """See `ObjectStore`. Files are opened as they are, so their size costs no memory."""

    remote = False

    def __init__(self, root: Path) -> None:
        """`root` must be absolute; it may come into being later, as a mount does."""
        self.root = root
        self._mounted = False  # whether it ever was a mount of its own

    def fetch(
        self,
        key: str,
        *,
        bucket: str | None = None,
        max_bytes: int,
        admit: Callable[[int], None] | None = None,
    ) -> Blob:
        """See `ObjectStore.fetch`."""
        where = f"{self.root}: key {key!r}"
        _refuse_bucket(bucket)
        _refuse_escape(key, where)
        with self._opened_root() as root, translated(where, missing=ObjectNotFound):
            blob = open_below(root, key, where)
        try:
            if blob.size > max_bytes:
                raise ObjectTooLarge(
                    f"{where}: {blob.size} bytes; EMO_MAX_OBJECT_BYTES allows {max_bytes}"
                )
            if admit is not None:
                admit(blob.size)
        except BaseException:
            blob.close()
            raise
        return blob

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        *,
        content_type: str,  # a file has none
        bucket: str | None = None,
    ) -> None:
        """See `ObjectStore.put`. Makes the directories on the way; readers never see a part."""
        self._put(key, [data], bucket)

    def _put(self, key: str, data: Iterable[bytes | memoryview], bucket: str | None) -> None:
        _refuse_bucket(bucket)
        with self.place(key) as (directory, name):
            _replace(directory, name, data)

    @contextmanager
    def place(self, key: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the directory that a key lies in, made where it is missing; its name.

        Raises as `put` does, for what is done there too.
        """
        where = f"{self.root}: key {key!r}"
        _refuse_escape(key, where)
        *parents, name = key.split("/")
        if name in ("", "."):
            raise InvalidJob(f"{where}: names no file; end the key with a file name")
        with (
            self._opened_root() as root,
            translated(where, missing=AccessDenied),
            ExitStack() as opened,
        ):
            directory = root
            for parent in filter(None, parents):
                with suppress(FileExistsError):
                    os.mkdir(parent, dir_fd=directory)
                flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                directory = os.open(parent, flags, dir_fd=directory)
                opened.callback(os.close, directory)
                _require_below(root, directory, where)
            yield directory, name

    def put_file(
        self, key: str, path: Path, *, content_type: str, bucket: str | None = None
    ) -> None:
        """See `ManagedStore.put_file`."""
        with path.open("rb") as file:
            self._put(key, iter(partial(file.read, _COPIED_BYTES), b""), bucket)

    def list(
        self, prefix: str, *, after: str = "", bucket: str | None = None
    ) -> Iterator[StoredObject]:
        """See `ManagedStore.list`. Symlinks to directories are not followed."""
        _refuse_bucket(bucket)
        _refuse_escape(prefix, f"{self.root}: prefix {prefix!r}")
        with self._opened_root():
            pass  # what is not mounted is not empty
        with translated(f"{self.root}: prefix {prefix!r}", missing=StorageUnavailable):
            yield from walk(self.root, os.fsencode(prefix), os.fsencode(after))

    def delete(self, key: str, *, bucket: str | None = None) -> None:
        """See `ManagedStore.delete`. A directory that held nothing else goes with it."""
        where = f"{self.root}: key {key!r}"
        _refuse_bucket(bucket)
        _refuse_escape(key, where)
        parent, _, name = key.rpartition("/")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        with (
            self._opened_root() as root,
            suppress(ObjectNotFound),
            translated(where, missing=ObjectNotFound),
        ):
            directory = os.open(parent or ".", flags, dir_fd=root)
            try:
                _require_below(root, directory, where)
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(directory)
            if parent:
                with suppress(OSError):  # it holds more
                    os.rmdir(parent, dir_fd=root)

    def check(self) -> None:
        """See `ObjectStore.check`."""
        with self._opened_root():
            if not os.access(self.root, os.R_OK | os.X_OK, effective_ids=True):
                raise AccessDenied(
                    f"{self.root}: not readable; give user {os.geteuid()} read and search rights"
                )

    def serves(self) -> None:
        """See `ObjectStore.serves`."""
        with self._opened_root():
            try:
                with os.scandir(self.root) as entries:
                    next(entries, None)
            except OSError as error:
                raise StorageUnavailable(
                    f"{self.root}: cannot be listed ({error.strerror}); look at its file system"
                ) from error

    @contextmanager
    def _opened_root(self) -> Iterator[int]:
        """The root's descriptor, opened afresh: a mount may have come or gone since."""
        try:
            root = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageUnavailable(
                f"{self.root}: cannot be opened as a directory ({error.strerror});"
                " mount or create it, or correct EMO_STORE"
            ) from error
        try:
            self._require_mount(root)
            yield root
        finally:
            os.close(root)

    def _require_mount(self, root: int) -> None:
        """Raise StorageUnavailable where the root was a mount: what lay under it is no store."""
        if _is_mount(root):
            self._mounted = True
        elif self._mounted:
            raise StorageUnavailable(f"{self.root}: is not mounted any more; mount it again")


def _is_mount(directory: int) -> bool:
    """Whether another file system begins there."""
    try:
        return os.fstat(directory).st_dev != os.stat("..", dir_fd=directory).st_dev
    except OSError:  # it may not be searched: whoever reads from it is told
        return False


def _refuse_bucket(bucket: str | None) -> None:
    if bucket is not None:
        raise InvalidJob(
            f"field 'bucket': a directory store has no buckets; put {bucket!r} in front of the key"
        )


def _refuse_escape(key: str, where: str) -> None:
    if key.startswith("/") or ".." in key.split("/"):
        raise AccessDenied(f"{where}: leaves the store; give a path below its root, without '..'")


def open_below(root: int, key: str, where: str) -> Blob:
    """Open the regular file `key` below `root` for reading."""
    # O_PATH pins what the path leads to without opening it: a FIFO does not block, a device does
    # nothing, and what is checked is what is then opened, whoever swaps links meanwhile.
    pinned = os.open(key, os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    try:
        _require_below(root, pinned, where)
        status = os.fstat(pinned)
        if stat.S_ISDIR(status.st_mode):
            raise ObjectNotFound(f"{where}: is a directory; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise AccessDenied(f"{where}: is a device, pipe or socket; only files are read")
        fd = os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_CLOEXEC)
        return Blob(fd, status.st_size)
    finally:
        os.close(pinned)


def _require_below(root: int, fd: int, where: str) -> None:
    """Raise AccessDenied unless `fd`, all links followed, lies below `root`."""
    path, whole = _path(fd), _path(root)
    if not path.startswith(whole.rstrip("/") + "/") and path != whole:
        raise AccessDenied(f"{where}: a symlink on the way leaves the store; remove it")


def _path(fd: int) -> str:
    """The kernel's own name for an open file, without links."""
    return os.readlink(f"/proc/self/fd/{fd}")


def _replace(directory: int, name: str, data: Iterable[bytes | memoryview]) -> None:
    """Write `data` to a file beside `name`, then rename it."""
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    out = os.open(temporary, flags, 0o666, dir_fd=directory)
    try:
        for part in data:
            write_all(out, part)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(out)


@contextmanager
def translated(where: str, *, missing: type[JobError]) -> Iterator[None]:
    """Turn what the system says about a path into what it means for the job."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise missing(f"{where}: {error.strerror}; correct the key") from error
        if error.errno in _FORBIDDEN:
            raise AccessDenied(f"{where}: {error.strerror}; correct its rights") from error
        raise StorageUnavailable(f"{where}: {error.strerror}; look at its file system") from error
    except ValueError as error:  # a NUL or half a surrogate pair: no file can be called that
        raise missing(f"{where}: {error}; correct the key") from error
