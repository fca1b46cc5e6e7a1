"""Long audio through real decode processes, with less room in the spool than it all would take."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storage.errors import AudioTooLong, SpoolUnavailable
from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits, chunk, mp3, pcm16, silent_flac, tone, wav
from tests.support.mounts import mounted
from tests.support.polling import until
from worker.audio import room
from worker.audio.commandline import decode_isolated
from worker.audio.processes import DecodeProcesses
from worker.audio.room import Spool
from worker.clip import Waveform

NO_LIMIT = 1 << 40
JUNK = bytes(1 << 26)
SECONDS = 20
FILE_BYTES = SECONDS * 16_000 * 4
DISK_BYTES = 2_600_000 + 1_000_000  # of two such files and most of a third

Decoding = Callable[[bytes], "Future[Waveform]"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds two files, and not three."""
    with mounted(tmp_path, size_bytes=DISK_BYTES):
        yield tmp_path


@pytest.fixture
def decoding() -> Iterator[Callable[[Spool], Decoding]]:
    """Decode files in two processes over a spool, four at once, each in a thread of its own."""
    threads, pools = ThreadPoolExecutor(4), []

    def over(spool: Spool) -> Decoding:
        limits = replace(ample_limits(spool.directory), window_seconds=1)
        pools.append(pool := DecodeProcesses(2, limits, spool))
        return lambda data: threads.submit(lambda: pool.decode(Blob.from_bytes(data))[0])

    yield over
    for pool in pools:
        pool.close()
    threads.shutdown()


def _all_in_turn(decode: Decoding, spool: Spool, files: int) -> list[int]:
    """Seconds of each file, when some have had to wait until others are let go."""
    data = mp3(SECONDS)
    jobs = [decode(data) for _ in range(files)]
    until(lambda: sum(job.done() for job in jobs) == 2 and spool._asking)
    seconds = []
    while jobs:
        until(lambda: any(job.done() for job in jobs))
        jobs.sort(key=lambda job: not job.done())
        seconds.append(round(jobs.pop(0).result().duration_seconds))  # and its file is gone
    return seconds


def test_a_full_disk_fails_nothing(small_disk: Path, decoding: Callable[[Spool], Decoding]) -> None:
    """More recordings than the disk can hold are all decoded, each when there is room for it."""
    spool = Spool(small_disk, NO_LIMIT)
    assert _all_in_turn(decoding(spool), spool, 6) == [SECONDS] * 6
    assert spool.used_bytes == 0
    assert os.statvfs(small_disk).f_bfree == os.statvfs(small_disk).f_blocks


def test_a_full_budget_fails_nothing(tmp_path: Path, decoding: Callable[[Spool], Decoding]) -> None:
    """The same where EMO_SPOOL_BYTES is what is full."""
    spool = Spool(tmp_path, DISK_BYTES)
    assert _all_in_turn(decoding(spool), spool, 6) == [SECONDS] * 6
    assert spool.used_bytes == 0


def test_more_than_the_whole_budget_is_refused_at_once(
    tmp_path: Path, decoding: Callable[[Spool], Decoding]
) -> None:
    """No waiting could help: the job's end is permanent, and says which setting."""
    spool = Spool(tmp_path, FILE_BYTES // 2)
    decode = decoding(spool)
    with pytest.raises(AudioTooLong, match="EMO_SPOOL_BYTES") as refused:
        decode(mp3(SECONDS)).result()
    assert not refused.value.retryable
    assert spool.used_bytes == 0
    assert round(decode(mp3(SECONDS / 4)).result().duration_seconds) == SECONDS / 4
    with pytest.raises(AudioTooLong, match="EMO_SPOOL_BYTES"):
        decode_isolated(Blob.from_bytes(mp3(SECONDS)), ample_limits(tmp_path), spool)


def test_a_decode_in_isolation_tells_how_it_gets_on(tmp_path: Path) -> None:
    """It reserves nothing, but may take as long as any other: what has come, again and again."""
    spool, told = Spool(tmp_path, NO_LIMIT), list[int | None]()
    spool.told = told.append
    decode_isolated(Blob.from_bytes(mp3(SECONDS)), ample_limits(tmp_path), spool)
    assert len(told) > 2
    assert told == sorted(told, key=lambda each: each or 0)
    assert (told[-1] or 0) == pytest.approx(FILE_BYTES, rel=0.01)


def test_audio_that_is_longer_than_guessed_is_decoded(
    tmp_path: Path, decoding: Callable[[Spool], Decoding]
) -> None:
    """Ten minutes of silence are a few bytes, so the guess is far too low, and grows."""
    spool = Spool(tmp_path, NO_LIMIT)
    waveform = decoding(spool)(silent_flac(600)).result()
    assert round(waveform.duration_seconds) == 600
    assert spool.used_bytes == 600 * 16_000 * 4
    del waveform
    assert spool.used_bytes == 0


def test_audio_that_is_longer_than_guessed_begins_again(
    tmp_path: Path, decoding: Callable[[Spool], Decoding]
) -> None:
    """Where others have the room that is missing, it gives up its own, and waits for all of it."""
    silence_bytes = 600 * 16_000 * 4
    spool = Spool(tmp_path, silence_bytes + FILE_BYTES // 2)
    decode = decoding(spool)
    other = [decode(mp3(SECONDS)).result()]
    job = decode(silent_flac(600))
    until(lambda: spool._asking)
    assert spool.used_bytes == FILE_BYTES
    other.clear()
    assert round(job.result().duration_seconds) == 600


def test_a_disk_that_others_fill_is_no_fault_of_the_job(
    small_disk: Path, decoding: Callable[[Spool], Decoding], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing of ours there to wait for, the spool is at fault until there is room."""
    monkeypatch.setattr(room, "_PATIENCE_SECONDS", 0.1)
    spool = Spool(small_disk, NO_LIMIT)
    decode = decoding(spool)
    (small_disk / "theirs").write_bytes(bytes(DISK_BYTES - FILE_BYTES // 2))
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        decode(mp3(SECONDS)).result()
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        spool.check()
    (small_disk / "theirs").unlink()
    spool.check()
    assert round(decode(mp3(SECONDS)).result().duration_seconds) == SECONDS


def test_a_file_that_looks_long_takes_what_it_needs(
    small_disk: Path, decoding: Callable[[Spool], Decoding]
) -> None:
    """Ten seconds and much else: by their share of the file it would be longer than the disk."""
    spool = Spool(small_disk, NO_LIMIT)
    data = wav(pcm16(tone(10, 44_100)), sample_rate_hz=44_100, after=chunk(b"junk", JUNK))
    assert round(decoding(spool)(data).result().duration_seconds) == 10
    spool.check()


def test_audio_that_no_room_will_ever_hold_is_refused(
    small_disk: Path, decoding: Callable[[Spool], Decoding]
) -> None:
    """On a disk that is smaller than the budget, where it must not make the worker sick."""
    spool = Spool(small_disk, NO_LIMIT)
    decode = decoding(spool)
    with pytest.raises(AudioTooLong, match="EMO_SPOOL_DIR"):
        decode(silent_flac(600)).result()
    spool.check()
    assert round(decode(mp3(SECONDS)).result().duration_seconds) == SECONDS


def test_a_suspect_on_a_full_disk_is_not_cut_short(small_disk: Path) -> None:
    """What ffmpeg could not write is a fault of the spool, not a file that ends early."""
    (small_disk / "theirs").write_bytes(bytes(DISK_BYTES - FILE_BYTES // 2))
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        decode_isolated(Blob.from_bytes(mp3(SECONDS)), ample_limits(small_disk))
