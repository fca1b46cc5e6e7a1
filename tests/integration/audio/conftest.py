"""Decode processes that the tests of decoding share."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits
from tests.support.own_rate import Ways, ways_of
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched, Waveform
from worker.stages.decode import Decode


@pytest.fixture(scope="package")
def limits(tmp_path_factory: pytest.TempPathFactory) -> AudioLimits:
    """Limits that no ordinary file meets."""
    return ample_limits(tmp_path_factory.mktemp("spool"))


@pytest.fixture(scope="package")
def processes(limits: AudioLimits) -> Iterator[DecodeProcesses]:
    """Two decode processes for all tests that do them no harm."""
    processes = DecodeProcesses(2, limits)
    yield processes
    processes.close()


@pytest.fixture(params=["processes", "command line"])
def decode(
    request: pytest.FixtureRequest, processes: DecodeProcesses, limits: AudioLimits
) -> Callable[[bytes], Waveform]:
    """Both ways to decode: the stage, and the isolated command line."""
    if request.param == "processes":
        stage = Decode(processes, limits)
        return lambda data: stage(Fetched(Blob.from_bytes(data))).whole
    return lambda data: decode_isolated(Blob.from_bytes(data), limits)[0]


@pytest.fixture(scope="package")
def spooling(tmp_path_factory: pytest.TempPathFactory) -> AudioLimits:
    """Under these, what is longer than a second goes to the spool."""
    return replace(ample_limits(tmp_path_factory.mktemp("spool")), window_seconds=1)


@pytest.fixture(scope="package")
def ways(limits: AudioLimits) -> Iterator[Ways]:
    """Both ways to 16 kHz, with limits that no ordinary file meets."""
    yield from ways_of(limits)
