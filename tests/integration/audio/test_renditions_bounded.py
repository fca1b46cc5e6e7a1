"""Renditions in a spool that is full, and by a decode process that is hostile."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from storage.errors import AudioTooLong, DecodeCrashed, SpoolUnavailable, StageTimeout
from storage.objects.blob import Blob
from storage.wire.messages import Want
from tests.support.audio_files import silent_flac
from tests.support.hostile_child import RENDER_MISDEEDS
from tests.support.stages import BOTH
from worker.audio import process
from worker.audio.limits import AudioLimits
from worker.audio.preview import preview_bytes
from worker.audio.process import DecodeProcess
from worker.audio.processes import DecodeProcesses
from worker.audio.renditions import Decoded, Rendering
from worker.audio.room import Spool
from worker.clip import Renditions, Waveform


def test_a_preview_lies_in_the_spool_and_goes_with_its_samples(spooling: AudioLimits) -> None:
    """Its room is reserved, exactly what it takes, and comes back when nobody needs either."""
    pool = DecodeProcesses(1, spooling)
    try:
        made = Renditions(BOTH)
        lanes: tuple[Waveform, ...] | None = pool.decode(
            Blob.from_bytes(silent_flac(60)), renditions=made
        )
        assert pool.spool.used_bytes == 60 * 16_000 * 4 + len(made.preview)
        assert made.held_bytes == len(made.peaks)
        del lanes
        gc.collect()
        assert pool.spool.used_bytes, "the preview is not stored yet"
        made.preview = b""
        gc.collect()
        assert pool.spool.used_bytes == 0
        assert not list(spooling.spool_dir.iterdir())
    finally:
        pool.close()


def test_a_preview_counts_as_what_is_spooled(spooling: AudioLimits) -> None:
    """Where the samples fit and the preview does not, that is said before it is made."""
    room = 30 * 16_000 * 4 + 5_000
    pool = DecodeProcesses(1, replace(spooling, spool_bytes=room))
    try:
        assert pool.decode(Blob.from_bytes(silent_flac(30)))
        gc.collect()
        with pytest.raises(AudioTooLong, match="EMO_SPOOL_BYTES"):
            pool.decode(Blob.from_bytes(silent_flac(30)), renditions=Renditions(BOTH))
        gc.collect()
        assert pool.spool.used_bytes == 0
    finally:
        pool.close()


def test_who_has_to_wait_for_room_gets_it_for_the_preview_too(spooling: AudioLimits) -> None:
    """Several at once, where the spool holds one and a half: nobody locks up, or goes without."""
    one = 60 * 16_000 * 4
    pool = DecodeProcesses(3, replace(spooling, spool_bytes=round(1.7 * one)))

    def make(_: int) -> tuple[int, int]:
        made = Renditions(BOTH)
        lanes = pool.decode(Blob.from_bytes(silent_flac(60)), renditions=made)
        sizes = len(lanes[0].samples), len(made.preview)
        del lanes
        made.preview = b""
        return sizes

    try:
        with ThreadPoolExecutor(3) as threads:
            sizes = list(threads.map(make, range(6)))
        assert sizes == [(60 * 16_000, preview_bytes(60 * 16_000, 1))] * 6
        gc.collect()
        assert pool.spool.used_bytes == 0
    finally:
        pool.close()


@pytest.fixture
def taken_over(
    spooling: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., DecodeProcess]]:
    """Starts a decode process that does as a file tells it."""
    started: list[DecodeProcess] = []

    def start(**changes: Any) -> DecodeProcess:
        monkeypatch.setattr(process, "_PROGRAM", "tests.support.hostile_child")
        started.append(DecodeProcess(replace(spooling, **changes)))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.mark.parametrize("misdeed", RENDER_MISDEEDS)
def test_whatever_it_renders_costs_its_own_file_alone(
    misdeed: str, taken_over: Callable[..., DecodeProcess], spooling: AudioLimits
) -> None:
    """The process is killed, and nothing of what it sent stays."""
    hostile = taken_over()
    spool = Spool(spooling.spool_dir, spooling.spool_bytes)
    gc.collect()  # what earlier tests left is not closed meanwhile
    before = len(os.listdir("/proc/self/fd"))
    with Blob.from_bytes(misdeed.encode()) as blob, pytest.raises(DecodeCrashed):
        hostile.decode(blob, spool, renditions=Renditions(BOTH))
    assert not hostile.is_alive()
    assert spool.used_bytes == 0
    assert len(os.listdir("/proc/self/fd")) == before - 3


def test_it_cannot_change_what_the_worker_reads(
    taken_over: Callable[..., DecodeProcess], spooling: AudioLimits
) -> None:
    """Samples in the spool are mapped by the worker: a process may read them and no more."""
    hostile = taken_over()
    spool = Spool(spooling.spool_dir, spooling.spool_bytes)
    with (
        Blob.from_bytes(b"write the samples") as blob,
        pytest.raises(DecodeCrashed, match="EBADF EBADF"),
    ):
        hostile.decode(blob, spool, renditions=Renditions(BOTH))


def test_what_takes_too_long_to_render_is_stopped(
    taken_over: Callable[..., DecodeProcess], spooling: AudioLimits
) -> None:
    """By the limit of decoding, which is one a file and one for each of them."""
    hostile = taken_over(timeout_seconds=1)
    spool = Spool(spooling.spool_dir, spooling.spool_bytes)
    started = time.monotonic()
    with (
        Blob.from_bytes(b"take for ever") as blob,
        pytest.raises(StageTimeout, match="EMO_DECODE_TIMEOUT_SECONDS"),
    ):
        hostile.decode(blob, spool, renditions=Renditions(BOTH))
    assert 1 <= time.monotonic() - started < 60
    assert not hostile.is_alive()


def test_a_full_spool_is_named() -> None:
    """Where the disk takes no more of a preview, the error says which setting to look at."""
    full = os.open("/dev/full", os.O_RDWR)
    try:
        rendering = Rendering(Want.PREVIEW, Decoded(full, 16_000, 1, file=True))
        with (
            Blob.from_bytes(b"x" * 100) as made,
            pytest.raises(SpoolUnavailable, match="SPOOL_DIR"),
        ):
            rendering.take(made.fd, 100)
    finally:
        os.close(full)
