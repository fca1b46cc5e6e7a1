"""Samples in sealed memory: what is written, and what is refused before it is mapped."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.audio.pcm import PcmWriter, require_sealed, seal
from worker.audio.protocol import Misbehaved

PART_BYTES = 100_000
ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@pytest.mark.parametrize("num_chunks", [0, 3, 25, 26, 500])
def test_samples_keep_their_order_over_parts(num_chunks: int) -> None:
    """Parts are full, the last is the rest, nothing is lost or doubled, and all are sealed."""
    chunks = [bytes([index % 251]) * 4_000 for index in range(num_chunks)]
    parts: list[bytes] = []

    def hand_over(fd: int) -> None:
        require_sealed(fd, PART_BYTES // 4)
        parts.append(os.pread(fd, PART_BYTES + 1, 0))

    with PcmWriter(PART_BYTES, hand_over) as pcm:
        for chunk in chunks:
            pcm.write(memoryview(chunk))
        last, num_samples = pcm.finish()
        require_sealed(last, num_samples)
        assert b"".join([*parts, os.pread(last, PART_BYTES + 1, 0)]) == b"".join(chunks)
    assert pcm.num_samples == 1_000 * num_chunks
    assert len(parts) == max(0, (num_chunks - 1) // 25)


def test_sealed_memory_stays_as_it_is() -> None:
    """Neither its bytes nor its size can be changed, nor the seals be taken off."""
    fd = memory(8)
    seal(fd)
    for change in (
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, 16),
        lambda: os.pwrite(fd, b"x", 0),
        lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
    ):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


def memory(num_bytes: int) -> int:
    """Memory that can be sealed."""
    fd = os.memfd_create("pcm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(num_bytes))
    return fd


def sealed_but(missing: int) -> int:
    """Memory of two samples that lacks one of the seals."""
    fd = memory(8)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, ALL_SEALS & ~missing)
    return fd


def of_other_length(num_bytes: int) -> int:
    """Sealed memory."""
    fd = memory(num_bytes)
    seal(fd)
    return fd


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: sealed_but(fcntl.F_SEAL_SHRINK), id="may shrink"),
        pytest.param(lambda path: sealed_but(fcntl.F_SEAL_GROW), id="may grow"),
        pytest.param(lambda path: sealed_but(fcntl.F_SEAL_WRITE), id="may be written"),
        pytest.param(lambda path: os.memfd_create("pcm"), id="no sealing"),
        pytest.param(lambda path: of_other_length(4), id="too short"),
        pytest.param(lambda path: of_other_length(12), id="too long"),
        pytest.param(lambda path: os.open(path, os.O_TMPFILE | os.O_RDWR), id="file"),
        pytest.param(lambda path: os.open("/dev/zero", os.O_RDONLY), id="device"),
        pytest.param(lambda path: os.open(path, os.O_RDONLY), id="directory"),
    ],
)
def test_what_could_be_cut_short_is_refused(make: Callable[[Path], int], tmp_path: Path) -> None:
    """Whatever is not sealed memory of just so many samples is never mapped."""
    fd = make(tmp_path)
    try:
        with pytest.raises(Misbehaved):
            require_sealed(fd, 2)
    finally:
        os.close(fd)
