"""Files without names, and samples that move to one."""

import errno
import os
from pathlib import Path

import pytest

from worker.audio.spool import PcmWriter, Place, unnamed_file


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


@pytest.mark.parametrize("num_chunks", [3, 500])
def test_samples_keep_their_order_when_they_move_to_the_spool(
    tmp_path: Path, num_chunks: int
) -> None:
    """Whatever was in memory comes first in the file, and nothing is lost or doubled."""
    chunks = [bytes([index % 251]) * 4_000 for index in range(num_chunks)]

    def ask(num_samples: int) -> Place:
        return Place(2 * num_samples, unnamed_file(tmp_path) if num_samples < 200_000 else None)

    with PcmWriter(memory_samples=100_000, ask=ask) as pcm:
        for chunk in chunks:
            pcm.write(memoryview(chunk))
        pcm.flush()
        assert pcm.num_samples == 1_000 * num_chunks
        assert os.pread(pcm.fd, 4_001 * num_chunks, 0) == b"".join(chunks)
        spooled = str(tmp_path) in os.readlink(f"/proc/self/fd/{pcm.fd}")
    assert spooled == (num_chunks == 500)
