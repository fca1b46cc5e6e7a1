"""Memory, open files, spools and ports that are not as they should be."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.descriptors import no_descriptors
from tests.support.findings import found, one
from tests.support.mounts import mounted
from worker.doctor.findings import State
from worker.doctor.machine import machine, python
from worker.settings import WorkerSettings
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics


def look(check: str, **settings: Any) -> tuple[State, str]:
    """What one check says of these settings."""
    return one(machine(WorkerSettings(**{"metrics_address": "", **settings})), check)


@contextmanager
def limited(descriptors: int) -> Iterator[None]:
    """Within, this process may open so many files, and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_machine_as_it_should_be(tmp_path: Path) -> None:
    """Nothing is wrong, and nothing is left in the spool."""
    settings = WorkerSettings(
        metrics_address="127.0.0.1:0", model="random:tiny", device="cpu", spool_dir=str(tmp_path)
    )
    assert {state for lines in found(machine(settings)).values() for state, _ in lines} == {
        State.OK
    }
    assert list(tmp_path.iterdir()) == []
    assert one(python(), "Python")[0] is State.OK


def test_no_descriptors_left(tmp_path: Path) -> None:
    """As after a leak; it is said, and what to do."""
    with no_descriptors():
        state, text = look("open files", spool_dir=str(tmp_path))
    assert (state, "ulimit -n" in text) == (State.FAIL, True)


def test_a_limit_of_descriptors_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """For full tapes; where the hard limit is low, a worker cannot raise it."""
    monkeypatch.setattr("worker.doctor.machine.raise_limit", lambda: None)
    with limited(512):
        state, text = look("open files", device="cuda", decode_processes=2, fetch_threads=8)
    assert (state, "LimitNOFILE" in text) == (State.WARN, True)


def test_a_full_spool(tmp_path: Path) -> None:
    """On a disk of its own."""
    with mounted(tmp_path, size_bytes=64 * 1024):
        (tmp_path / "full").write_bytes(bytes(64 * 1024))
        state, text = look("spool", spool_dir=str(tmp_path), max_audio_seconds=1)
        assert (state, "No space left" in text) == (State.FAIL, True)


def test_a_spool_with_little_room(tmp_path: Path) -> None:
    """Long audio will wait; and a disk that is too small for the longest never will do."""
    with mounted(tmp_path, size_bytes=1024 * 1024):
        (tmp_path / "half").write_bytes(bytes(512 * 1024))
        state, text = look("spool", spool_dir=str(tmp_path), max_audio_seconds=10)
        assert (state, "EMO_MAX_AUDIO_SECONDS" in text) == (State.WARN, True)
        state, text = look("spool", spool_dir=str(tmp_path), max_audio_seconds=60)
        assert (state, "whole disk" in text) == (State.FAIL, True)


@pytest.mark.parametrize("directory", ["/no/such", "/proc", "/etc/passwd"])
def test_a_spool_that_is_none(directory: str) -> None:
    """Missing, not to be written to, no directory."""
    state, text = look("spool", spool_dir=directory)
    assert (state, directory in text) == (State.FAIL, True)


def test_memory_for_what_is_in_flight() -> None:
    """More than there is."""
    state, text = look("memory", bytes_in_flight=10**15)
    assert (state, "EMO_BYTES_IN_FLIGHT" in text) == (State.WARN, True)


def test_a_port_that_somebody_has() -> None:
    """A worker may; anybody else is in the way, and so is one who says nothing."""
    with ExitStack() as stack:
        server = HealthServer("127.0.0.1:0", Metrics(), alive=lambda: True, ready=lambda: False)
        server.start()
        stack.callback(server.stop)
        state, text = look("port", metrics_address=f"127.0.0.1:{server.port}")
        assert (state, "a worker answers" in text) == (State.OK, True)
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        state, text = look("port", metrics_address=f"127.0.0.1:{other.getsockname()[1]}")
        assert (state, "EMO_METRICS_ADDRESS" in text) == (State.FAIL, True)
