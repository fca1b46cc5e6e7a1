"""Real servers for all tests: one Redis at a time, emptied before each test."""

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from storage.redis import embedded
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.ports import hold_all_ports
from tests.support.redis_servers import MISSING, NEWEST, binary

# Read when torch is imported. Tests run side by side, one for each core; and where several threads
# compute, they wait for each other as a worker's do, without spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config: pytest.Config) -> None:
    """In CI no server may be missing; and programs are ended by Ctrl-C, wherever tests run."""
    controls = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not controls:  # it runs no test, and needs no torch
        import torch  # noqa: PLC0415 (as it says)

        # Read when Triton is imported: without a GPU, an interpreter runs the kernels.
        if not torch.cuda.is_available():
            os.environ.setdefault("TRITON_INTERPRET", "1")
    hold_all_ports()
    # On a machine that stands still, a server starts and ends as late as all else.
    embedded._START_SECONDS = embedded._STOP_SECONDS = TIMEOUT_SECONDS
    # A shell's background jobs ignore it, and so would all that they start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if find_spec("hypothesis"):  # the tests of a GPU need none
        from hypothesis import HealthCheck, settings  # noqa: PLC0415 (where there is one)

        # How long an example takes is for the machine's other work to say.
        slow = [HealthCheck.too_slow]
        settings.register_profile("busy", deadline=None, suppress_health_check=slow)
        if not os.environ.get("CI"):  # whose profile does the same
            settings.load_profile("busy")
    if MISSING and os.environ.get("CI"):
        raise pytest.UsageError(f"there is no {', '.join(MISSING)} here; see tests/servers")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was not tested, however many tests it is."""
    for name in MISSING:
        terminalreporter.write_line(f"NO {name} on this machine: nothing was tested on it")


@pytest.fixture(scope="session")
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A real server that lives as long as the tests on it: the newest, or as parametrized."""
    name = getattr(request, "param", NEWEST)
    with EmbeddedRedis(tmp_path_factory.mktemp(name), binary=binary(name)) as server:
        yield server


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[Any]:
    """A client of the emptied server; Any, since redis-py types a reply as every possible one."""
    with connect(redis_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        client.flushall()
        yield client


@pytest.fixture
def keys() -> Keys:
    """The key names under the default prefix."""
    return Keys("emo")
