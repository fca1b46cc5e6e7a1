"""Room in the spool: who gets it, who waits, and who is told that there will be none."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import AudioTooLong, Internal, SpoolUnavailable
from tests.support.mounts import mounted
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.audio.room import Spool, SpoolFile


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    with mounted(tmp_path, size_bytes=1 << 20):
        yield tmp_path


class Asking(threading.Thread):
    """A thread that asks for room."""

    def __init__(self, spool: Spool, *num_bytes: int) -> None:
        super().__init__(daemon=True)
        self.file: SpoolFile | None = None
        self.error: Exception | None = None
        self._spool = spool
        self._num_bytes = num_bytes
        before = len(spool._asking)
        self.start()
        until(lambda: len(spool._asking) > before or not self.is_alive())

    def run(self) -> None:
        """Ask, and keep the answer."""
        try:
            self.file = self._spool.reserve(*self._num_bytes)
        except Exception as error:
            self.error = error


def test_room_is_given_in_turn(tmp_path: Path) -> None:
    """A large file does not wait for as long as small ones keep coming."""
    spool = Spool(tmp_path, 100)
    first = spool.reserve(60)
    large, small = Asking(spool, 90), Asking(spool, 10)
    first.shrink(50)
    assert (large.file, small.file) == (None, None)
    first.release()
    large.join(TIMEOUT_SECONDS)
    small.join(TIMEOUT_SECONDS)
    assert large.file
    assert small.file
    assert spool.used_bytes == 100


def test_a_file_grows_where_there_is_room_and_else_not_at_all(tmp_path: Path) -> None:
    """It never waits with room in its hands: two that did would wait for each other."""
    spool = Spool(tmp_path, 100)
    one, other = spool.reserve(40), spool.reserve(40)
    assert one.extend(60)
    assert not other.extend(50)
    assert (one.reserved_bytes, other.reserved_bytes, spool.used_bytes) == (60, 40, 100)


def test_what_is_reserved_is_on_the_disk(tmp_path: Path) -> None:
    """Another program that fills the disk takes nothing from what was promised."""
    file = Spool(tmp_path, 1 << 20).reserve(1 << 20)
    assert os.fstat(file.fd).st_blocks * 512 >= 1 << 20
    file.shrink(4096)
    assert os.fstat(file.fd).st_size == 4096


def test_more_than_there_will_ever_be_is_refused(tmp_path: Path) -> None:
    """At once, and for good."""
    with pytest.raises(AudioTooLong, match="EMO_SPOOL_BYTES"):
        Spool(tmp_path, 100).reserve(101)


def test_who_waits_is_told_of_the_end(tmp_path: Path) -> None:
    """A worker that stops does not wait for room."""
    spool = Spool(tmp_path, 100)
    spool.reserve(100)
    waiting = Asking(spool, 1)
    spool.close()
    waiting.join(TIMEOUT_SECONDS)
    assert isinstance(waiting.error, Internal)


def test_a_finalizer_may_give_back_room_at_any_time(tmp_path: Path) -> None:
    """The collector runs in whatever thread it likes, in the middle of a call of the spool too."""
    spool = Spool(tmp_path, 100)
    file = spool.reserve(100)
    with spool._changed:
        giving = threading.Thread(target=file.release, daemon=True)
        giving.start()
        giving.join(TIMEOUT_SECONDS)
        assert not giving.is_alive()
    gc.collect()
    file.release()  # a second time changes nothing
    assert spool.used_bytes == 0
    spool.reserve(100)


def test_a_directory_that_is_gone_is_found(tmp_path: Path) -> None:
    """The check of the worker itself, and whoever needs a file, say the same."""
    spool = Spool(tmp_path / "gone", 100)
    for ask in (spool.check, lambda: spool.reserve(10)):
        with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
            ask()
    (tmp_path / "gone").mkdir()
    spool.check()


def test_a_disk_that_is_full_of_our_own_files_is_no_fault(small_disk: Path) -> None:
    """They will go: the check passes, and fails once nothing of ours is in the way."""
    spool = Spool(small_disk, 1 << 40)
    disk = os.statvfs(small_disk)
    file = spool.reserve(disk.f_bfree * disk.f_frsize)
    spool.check()
    file.release()
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        spool.check()
    file.close()
    spool.check()


def test_with_nothing_of_ours_in_the_way_the_least_is_taken_at_once(small_disk: Path) -> None:
    """What is asked for is a guess, and may never be there."""
    spool = Spool(small_disk, 1 << 40)
    file = spool.reserve(1 << 30, 1 << 16)
    assert (file.reserved_bytes, spool.used_bytes) == (1 << 16, 1 << 16)
    waiting = Asking(spool, 1 << 30, 1 << 16)
    assert waiting.file is None  # for what is ours
    file.release()
    file.close()
    waiting.join(TIMEOUT_SECONDS)
    assert waiting.file


def test_one_recording_does_not_make_a_worker_sick_for_good(small_disk: Path) -> None:
    """All shorter audio has room: it is told of for a minute, in which others may take the job."""
    now = 0.0
    spool = Spool(small_disk, 1 << 40, clock=lambda: now)
    (small_disk / "theirs").write_bytes(bytes(1 << 19))
    waiting = Asking(spool, 3 << 18)
    until(lambda: spool._full_since is not None)
    now = 31.0
    waiting.join(TIMEOUT_SECONDS)
    assert isinstance(waiting.error, SpoolUnavailable)
    now = 90.0
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        spool.check()
    now = 92.0
    spool.check()


def test_what_does_not_fit_is_not_even_tried(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt would take what room there is from other programs, twenty times a second."""
    spool = Spool(small_disk, 1 << 40)
    fd = spool.open()
    (small_disk / "theirs").write_bytes(bytes(1 << 19))
    tried: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, start, size: tried.append(size))
    assert not spool.take(fd, 0, 3 << 18)
    assert spool.take(fd, 0, 1 << 18)
    assert tried == [1 << 18]
    os.close(fd)
