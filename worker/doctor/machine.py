"""Python, memory, open files, the spool, and the port: what every machine has."""

import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil

from storage.errors import JobError
from storage.serving.bounded_server import MOST_CONNECTIONS
from storage.serving.metrics_server import listen
from worker.audio.room import Spool
from worker.clip import SAMPLE_RATE_HZ
from worker.doctor.findings import Category, Check, Line, fail, ok, warn
from worker.fitness.self_test import spare_descriptors
from worker.pipeline.capacity import affordable_jobs, descriptors_of, jobs_for, raise_limit
from worker.settings import WorkerSettings, is_gpu_here, memory_bytes
from worker.tape import MAX_TAPE_SLOTS_GPU, max_tape_slots_cpu

_OLDEST_PYTHON = (3, 11)
_GB = 1e9
# torch and its libraries, the weights in float32, and what a tape takes while it runs.
_BESIDE_BYTES = 2 * 1024**3
_SAMPLE_BYTES = 4  # float32
_ANSWER_SECONDS = 2.0


def machine(settings: WorkerSettings) -> Category:
    """What a worker of these settings finds here."""
    return Category(
        "machine",
        (
            Check("Python", _python),
            Check("memory", lambda: _memory(settings)),
            Check("open files", lambda: _open_files(settings)),
            Check("spool", lambda: _spool(settings)),
            Check("port", lambda: _port(settings)),
        ),
    )


def python() -> Category:
    """What can be said without settings."""
    return Category("machine", (Check("Python", _python),))


def _python() -> Iterable[Line]:
    version, system = platform.python_version(), platform.system()
    if system != "Linux" or sys.version_info < _OLDEST_PYTHON:
        yield fail(
            f"Python {version} on {system}",
            "run it by Python 3.11 or newer, on Linux",
            "doctor.md#machine",
        )
    else:
        yield ok(f"Python {version}, {platform.machine()}, in {sys.prefix}")


def _memory(settings: WorkerSettings) -> Iterable[Line]:
    """What may be in flight at once, and the rest of a worker, in what is free."""
    limit, free = memory_bytes(), psutil.virtual_memory().available
    here = min(limit, free)
    needed = settings.bytes_in_flight + _BESIDE_BYTES
    text = f"{here / _GB:.1f} GB are free, of {limit / _GB:.1f} GB that this process may use"
    if settings.model == "random:tiny" or needed <= here:
        yield ok(text)
    else:
        yield warn(
            f"{text}; a worker may take {needed / _GB:.1f} GB, and decoding besides",
            f"lower EMO_BYTES_IN_FLIGHT ({int(settings.bytes_in_flight)} bytes), or give it more",
            "doctor.md#out-of-memory",
        )


def _open_files(settings: WorkerSettings) -> Iterable[Line]:
    try:
        spare_descriptors()
    except JobError as error:
        yield fail(str(error), "see what holds so many: ls /proc/PID/fd", "doctor.md#open-files")
        return
    raise_limit()  # as a worker does
    gpu = settings.device.startswith("cuda") or (settings.device == "auto" and is_gpu_here())
    most = MAX_TAPE_SLOTS_GPU if gpu else max_tape_slots_cpu(settings.compute_threads)
    slots = settings.tape_slots or most
    wanted = settings.jobs_in_flight or jobs_for(slots)
    beside = MOST_CONNECTIONS + descriptors_of(settings.fetch_threads, settings.decode_processes)
    jobs = affordable_jobs(wanted, beside=beside)
    if jobs < wanted:
        yield warn(
            f"the limit of open files allows {jobs} jobs at once; full tapes need {wanted}",
            "raise it: `ulimit -Hn`, `LimitNOFILE=`, `docker run --ulimit nofile=65536`",
            "doctor.md#open-files",
        )
    else:
        yield ok(f"enough for {wanted} jobs at once")


def _spool(settings: WorkerSettings) -> Iterable[Line]:
    """A file is written there; and there is the room that the settings speak of."""
    directory = Path(settings.spool_dir)
    longest = round(settings.max_audio_seconds * SAMPLE_RATE_HZ * _SAMPLE_BYTES)
    try:
        spool = Spool(directory, settings.spool_bytes)
        spool.check()
        spool.require_fitting(longest)
    except JobError as error:
        yield fail(str(error), "EMO_SPOOL_DIR names it", "doctor.md#spool")
        return
    free, wanted = shutil.disk_usage(directory).free, min(longest, settings.spool_bytes)
    text = f"{directory} has {free / _GB:.1f} GB free"
    if free < wanted:
        yield warn(
            f"{text}; a recording of {settings.max_audio_seconds:g} s takes {wanted / _GB:.1f} GB",
            "make room there, point EMO_SPOOL_DIR elsewhere, or lower EMO_MAX_AUDIO_SECONDS",
            "doctor.md#spool",
        )
    else:
        yield ok(text)


def _port(settings: WorkerSettings) -> Iterable[Line]:
    address = settings.metrics_address
    if not address:
        yield ok("EMO_METRICS_ADDRESS is empty: nothing is served")
        return
    try:
        listen(address, "EMO_METRICS_ADDRESS").close()
    except OSError as error:
        if _answers(address):
            yield ok(f"a worker answers at {address}; another one here needs an address of its own")
        else:
            yield fail(str(error), "see who listens there: `ss -ltnp`", "doctor.md#port")
    else:
        yield ok(f"{address} is free")


def _answers(address: str) -> bool:
    """Whether a worker of ours is what listens there."""
    host, _, port = address.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    try:
        with urlopen(f"http://{here}:{port}/readyz", timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.read(3) == b"ok\n")
    except HTTPError as error:
        return error.read(3) == b"no\n"
    except (URLError, OSError, ValueError):
        return False
