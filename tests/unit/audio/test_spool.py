"""Files without names."""

import errno
import os
from pathlib import Path

import pytest

from worker.audio.spool import unnamed_file


def test_where_unnamed_files_are_not_supported_one_is_unlinked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without O_TMPFILE, the file still has no name from the start."""
    real_open = os.open

    def open_without_tmpfile(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_without_tmpfile)
    fd = unnamed_file(tmp_path)
    assert os.write(fd, b"samples") == 7
    assert os.pread(fd, 7, 0) == b"samples"
    assert not list(tmp_path.iterdir())
    os.close(fd)
