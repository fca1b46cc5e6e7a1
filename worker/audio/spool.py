"""Files for long audio, and what is said where there can be none."""

import errno
import os
import tempfile
from pathlib import Path

from storage.errors import SpoolUnavailable

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)  # how file systems say so


def unnamed_file(directory: Path) -> int:
    """Descriptor of a new file that has no name: it is gone with its last user, however that ends.

    Raises OSError.
    """
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
    fd, name = tempfile.mkstemp(dir=directory)
    os.unlink(name)
    return fd


def spool_failed(directory: Path | str, error: OSError) -> SpoolUnavailable:
    """The error for a spool directory that takes no more, or never did."""
    return SpoolUnavailable(
        f"decoded audio cannot be written to {directory}: {error.strerror}; make room there, or "
        "point EMO_SPOOL_DIR elsewhere"
    )
