"""Decode processes as such: crashes, hangs, limits, memory, and what is left behind (nothing)."""

import gc
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from storage.errors import (
    AudioTooLong,
    DecodeCrashed,
    Internal,
    SpoolUnavailable,
    StageTimeout,
)
from storage.objects.blob import Blob
from tests.support.audio_files import (
    ample_limits,
    huge_index,
    mp3,
    silent_flac,
)
from tests.support.polling import until
from worker.audio import channel, process
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> AudioLimits:
    """Limits that no ordinary file meets."""
    return ample_limits(tmp_path_factory.mktemp("spool"))


@pytest.fixture
def pool(limits: AudioLimits) -> Iterator[Callable[..., DecodeProcesses]]:
    """Makes pools of a test's own, with limits of its own."""
    pools: list[DecodeProcesses] = []

    def make(count: int = 1, **changes: Any) -> DecodeProcesses:
        pools.append(DecodeProcesses(count, replace(limits, **changes)))
        return pools[-1]

    yield make
    for processes in pools:
        processes.close()


def worked_seconds(pid: int) -> float:
    """CPU time of a decode process, which hides all else but that."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def has_ended(pid: str) -> bool:
    """Whether a process is gone, or waits for nothing but to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def test_too_long_is_found_while_decoding(
    pool: Callable[..., DecodeProcesses], limits: AudioLimits
) -> None:
    """Twenty minutes in a small file are given up at the limit, by either way, at little cost."""
    data = silent_flac(1_200)
    processes, before = pool(max_audio_seconds=5), sum(os.times()[:4])
    with pytest.raises(AudioTooLong, match="EMO_MAX_AUDIO_SECONDS"):
        processes.decode(Blob.from_bytes(data))
    with pytest.raises(AudioTooLong):
        decode_isolated(Blob.from_bytes(data), replace(limits, max_audio_seconds=5))
    assert worked_seconds(processes.pids[0]) + sum(os.times()[:4]) - before < 10


def maps_of(place: str) -> set[str]:
    """What is mapped from there; a test before this one may have left something."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line for line in maps if place in line}


def test_long_audio_is_spooled_and_leaves_nothing(
    pool: Callable[..., DecodeProcesses], limits: AudioLimits
) -> None:
    """Audio beyond a window is a mapped file without a name; shorter audio stays in memory."""
    processes = pool(window_seconds=1)
    for data, place in ((mp3(0.5), "memfd:pcm"), (mp3(3), str(limits.spool_dir))):
        before = maps_of(place)
        (waveform,) = processes.decode(Blob.from_bytes(data))
        (ours,) = maps_of(place) - before
        assert "deleted" in ours
        assert not list(limits.spool_dir.iterdir())
        del waveform
        assert ours not in maps_of(place)


def test_a_spool_that_cannot_be_written_is_named(
    pool: Callable[..., DecodeProcesses], limits: AudioLimits
) -> None:
    """Where the spool directory is missing, the error says which setting to look at."""
    processes = pool(window_seconds=1, spool_dir=limits.spool_dir / "missing")
    with pytest.raises(SpoolUnavailable, match="EMO_SPOOL_DIR"):
        processes.decode(Blob.from_bytes(mp3(3)))


def test_what_a_process_prints_is_a_log_event(
    pool: Callable[..., DecodeProcesses], capfd: pytest.CaptureFixture[str]
) -> None:
    """Tracebacks, also of the libraries in it, are no lines on stderr beside those of the log."""
    with capture_logs() as logged, pytest.raises(Internal, match="did not start"):
        pool(memory_bytes=32 * 1024**2)  # Python alone fits in
    said = [line["text"] for line in logged if line["event"] == "decode.process_said"]
    assert "Error" in "".join(said)
    assert capfd.readouterr().err == ""


def test_a_crash_costs_its_own_job_only(pool: Callable[..., DecodeProcesses]) -> None:
    """A process killed in the middle fails its file; its neighbour and the next file are fine."""
    processes = pool(2)
    first, second = processes.pids
    before = worked_seconds(first)
    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(processes.decode, Blob.from_bytes(silent_flac(1_200))) for _ in range(2)
        ]
        until(lambda: worked_seconds(first) > before)  # and not for long: it would be done
        os.kill(first, signal.SIGKILL)
        outcomes = [job.exception() for job in jobs]
    (crash,) = [error for error in outcomes if error is not None]
    assert isinstance(crash, DecodeCrashed)
    assert "SIGKILL" in str(crash)
    with ThreadPoolExecutor(2) as threads:
        again = [threads.submit(processes.decode, Blob.from_bytes(mp3(1))) for _ in range(2)]
        assert all(len(job.result()[0].samples) > 15_000 for job in again)
    assert second in processes.pids


def test_a_hang_is_stopped_in_time(
    pool: Callable[..., DecodeProcesses], limits: AudioLimits
) -> None:
    """A process that does nothing is killed at its limit, and another takes its place."""
    processes = pool(timeout_seconds=4)
    (stopped,) = processes.pids
    processes._limits = limits  # of the other one, which hangs where the machine does
    os.kill(stopped, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(StageTimeout, match="EMO_DECODE_TIMEOUT_SECONDS"):
        processes.decode(Blob.from_bytes(mp3(1)))
    assert 4 <= time.monotonic() - started < 60
    assert len(processes.decode(Blob.from_bytes(mp3(1)))[0].samples) > 15_000
    assert processes.pids != [stopped]


def test_decoded_audio_earns_time(
    pool: Callable[..., DecodeProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long file may take longer than the limit for short ones, as long as it gets on.

    By a clock of this test: each message takes two seconds, and tells of thirty.
    """
    now = 1000.0

    def message() -> float:
        nonlocal now
        now += 2
        return now

    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(channel, "time", SimpleNamespace(monotonic=message))
    with Blob.from_bytes(silent_flac(1_200)) as blob:
        (waveform,) = pool(timeout_seconds=10).decode(blob)
    assert waveform.duration_seconds == pytest.approx(1_200)
    assert now > 1000 + 5 * 10


def test_memory_is_limited(pool: Callable[..., DecodeProcesses], limits: AudioLimits) -> None:
    """A file that asks for more memory than it may have fails, by either way; the next is fine."""
    memory_bytes = 256 * 1024**2
    processes = pool(memory_bytes=memory_bytes)
    assert resource.prlimit(processes.pids[0], resource.RLIMIT_AS) == (memory_bytes, memory_bytes)
    start, size = huge_index()
    with Blob.from_bytes(start) as blob:
        os.ftruncate(blob.fd, size)
        blob.size = size
        with pytest.raises(DecodeCrashed, match="EMO_DECODE_MEMORY_BYTES"):
            processes.decode(blob)
        with pytest.raises(DecodeCrashed, match="EMO_DECODE_MEMORY_BYTES"):
            decode_isolated(blob, replace(limits, memory_bytes=memory_bytes))
    assert len(processes.decode(Blob.from_bytes(mp3(1)))[0].samples) > 15_000


def test_processes_end_with_their_parent(limits: AudioLimits) -> None:
    """A worker that is killed leaves no decode process behind, not even a stopped one."""
    program = (
        "import os, signal; from pathlib import Path\n"
        "from worker.audio.limits import AudioLimits\n"
        "from worker.audio.processes import DecodeProcesses\n"
        f"limits = AudioLimits(60, 30, 30, 1 << 30, Path({str(limits.spool_dir)!r}))\n"
        # Held by name: collected, the pool would end its processes by itself.
        "processes = DecodeProcesses(2, limits)\n"
        "pids = processes.pids\n"
        "os.kill(pids[0], signal.SIGSTOP)\n"
        "print(*pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert parent.returncode == -signal.SIGKILL
    for pid in parent.stdout.split():
        until(partial(has_ended, pid))


def test_closing_ends_busy_processes(pool: Callable[..., DecodeProcesses]) -> None:
    """Closing does not wait for a file; afterwards nothing is decoded, and that is said."""
    processes = pool()
    (pid,) = processes.pids
    before = worked_seconds(pid)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(processes.decode, Blob.from_bytes(silent_flac(1_200)))
        until(lambda: worked_seconds(pid) > before)
        processes.close()
        assert isinstance(job.exception(), DecodeCrashed)
    assert has_ended(str(pid))
    with pytest.raises(Internal, match="closed"):
        processes.decode(Blob.from_bytes(mp3(1)))


def test_a_process_that_cannot_start_is_reported(limits: AudioLimits) -> None:
    """With too little memory to run at all, the worker fails when it starts, not job by job."""
    with pytest.raises(Internal, match="EMO_DECODE_MEMORY_BYTES"):
        DecodeProcesses(1, replace(limits, memory_bytes=1))


def test_the_processes_are_small() -> None:
    """A decode process imports neither numpy nor torch, so that it starts fast and stays small."""
    program = "import sys, worker.audio.child; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "av.container" in ran.stdout.split()
    assert not {"numpy", "torch", "pydantic"} & set(ran.stdout.split())
