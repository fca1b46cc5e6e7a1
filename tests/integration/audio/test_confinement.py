"""What a decode process that a file has taken over can do: tried from inside of one."""

import gc
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.errors import DecodeCrashed
from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits, mp3
from tests.support.hidden_worker import attempts
from tests.support.hostile_child import MISDEEDS
from worker.audio import process
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.process import DecodeProcess
from worker.audio.processes import DecodeProcesses
from worker.audio.room import Spool
from worker.commands.classify import classify
from worker.commands.doctor import doctor
from worker.commands.run import run

ROOT = Path(__file__).parents[3]
HOSTILE, UNFILTERED = "tests.support.hostile_child", "tests.support.unfiltered_child"
NOBODY = 65_534
WITHIN = {"hold a long file": "EFBIG"}
VARIABLES = {
    *("PATH", "PYTHONPATH", "LC_CTYPE"),  # the last is Python's own
    *("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
}
FILTERED = ("ENOSYS", "EPERM", "can't start new thread")
# Without the filter, what is left is that worker and process hide, and have no capability.
HIDDEN = (
    "read the worker's environment",
    "write the worker's memory",
    "list the worker's files",
    "trace the worker",
    "copy the worker's memory",
    "read its own environment",
)


@pytest.fixture
def limits(tmp_path: Path) -> AudioLimits:
    """A window of a tenth of a second, so that parts are small, and five seconds at most."""
    return replace(ample_limits(tmp_path), window_seconds=0.1, max_audio_seconds=5)


@pytest.fixture
def spool(limits: AudioLimits) -> Spool:
    """Room for all of it."""
    return Spool(limits.spool_dir, limits.spool_bytes)


@pytest.fixture
def taken_over(
    limits: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], DecodeProcess]]:
    """Starts decode processes that do as a file tells them."""
    started: list[DecodeProcess] = []

    def start(program: str = HOSTILE) -> DecodeProcess:
        monkeypatch.setattr(process, "_PROGRAM", program)
        started.append(DecodeProcess(limits))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="module")
def as_nobody() -> dict[str, Any]:
    """What `hidden_worker` finds, as a user without a capability, as in a container."""
    other: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    settings: dict[str, Any] = {
        "cwd": ROOT,
        "env": {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "EMO_S3_SECRET_KEY": "kept from children",
        },
        "capture_output": True,
        "text": True,
        **(other if os.geteuid() == 0 else {}),
    }
    program = ["-m", "tests.support.hidden_worker", HOSTILE, UNFILTERED]
    ran = subprocess.run([_python(settings), *program], check=False, **settings)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _python(settings: dict[str, Any]) -> str:
    """An interpreter that this user may run, and that has what ours has."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([python, "-c", "import av"], check=True, **settings)
            return python
    pytest.skip(f"user {NOBODY} may run no {version} here: NOTHING was tried as another user")


def test_nothing_leads_out_of_a_decode_process(
    taken_over: Callable[..., DecodeProcess], spool: Spool
) -> None:
    """Not even as root: to no file, socket, process, thread, signal, foreign memory or limit."""
    hostile = taken_over()
    assert hostile.refused == ""
    said = attempts(hostile, spool)
    del said["variables"]
    assert {name: said.pop(name) for name in WITHIN} == WITHIN
    assert {name: end for name, end in said.items() if end not in FILTERED} == {}
    assert len(said) > 20


def test_as_in_a_container_nothing_leads_out_either(as_nobody: dict[str, Any]) -> None:
    """Another user without capabilities; and the worker, which hides, can do all that it must."""
    found = dict(as_nobody)
    said = dict(found.pop(HOSTILE))
    assert said.pop("refused") == ""
    assert set(said.pop("variables").split()) <= VARIABLES
    assert {name: said.pop(name) for name in WITHIN} == WITHIN
    assert {name: end for name, end in said.items() if end not in FILTERED} == {}
    del found[UNFILTERED]
    assert found.pop("user") != 0
    assert found == {
        "capabilities": 0,
        "decoded_seconds": 40,
        "crowded_seconds": 40,  # whatever other programs of this user leave lying
        "isolated_seconds": 40,
        "rendered": True,  # of samples that it opened anew, to be read alone
        "oom_score_adj": 1_000,
        "no_new_privs": 1,
        "seccomp": 2,
        "looked into": "EACCES",
    }


def test_where_the_kernel_refuses_the_filter_the_worker_still_hides(
    as_nobody: dict[str, Any],
) -> None:
    """Its keys stay its own; what else the process may do then, the filter alone forbids."""
    said = as_nobody[UNFILTERED]
    assert "seccomp" in said["refused"]
    assert {name: said[name] for name in HIDDEN if said[name] not in ("EACCES", "EPERM")} == {}
    assert said["fork"] == "done"


class Hidden(Exception):
    """Raised in place of hiding."""


@pytest.mark.parametrize("command", [run, partial(classify, ["a.mp3"]), doctor])
def test_programs_that_decode_hide_before_all_else(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a setting is read, so before there is a decode process."""

    def hide() -> None:
        raise Hidden

    for module in ("worker.commands.run", "worker.commands.classify", "worker.commands.doctor"):
        monkeypatch.setattr(f"{module}.hide_memory", hide)
    with pytest.raises(Hidden):
        command()


def test_a_refusal_of_the_kernel_is_said_loudly(
    limits: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, at the start, as an error; decoding goes on."""
    monkeypatch.setattr(process, "_PROGRAM", UNFILTERED)
    with capture_logs() as logs:
        processes = DecodeProcesses(2, limits)
    try:
        assert not processes.confined
        (said,) = [line for line in logs if line["event"] == "decode.unconfined"]
        assert said["log_level"] == "error"
        assert "seccomp" in said["refused"]
    finally:
        processes.close()


def test_limits_are_as_tight_as_decoding_allows(limits: AudioLimits) -> None:
    """Descriptors, files, core dumps and memory, of a real decode process."""
    honest = DecodeProcess(limits)
    try:
        honest.wait_until_ready()
        for which, most in (
            (resource.RLIMIT_NOFILE, 16),
            (resource.RLIMIT_FSIZE, 64 * 1024),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_AS, limits.memory_bytes),
        ):
            assert resource.prlimit(honest.pid, which) == (most, most)
    finally:
        honest.kill()


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_whatever_it_sends_costs_its_own_file_alone(
    misdeed: str, taken_over: Callable[..., DecodeProcess], spool: Spool
) -> None:
    """The process is killed, and nothing of what it sent stays: no map, no descriptor, no room."""
    hostile = taken_over()
    gc.collect()  # what earlier tests left is not closed meanwhile
    before = sorted(os.listdir("/proc/self/fd"))
    with Blob.from_bytes(misdeed.encode()) as blob, pytest.raises(DecodeCrashed):
        hostile.decode(blob, spool)
    assert not hostile.is_alive()
    assert spool.used_bytes == 0
    # Its socket, its statistics and its stderr are closed with it.
    assert len(os.listdir("/proc/self/fd")) == len(before) - 3


def test_what_ffmpeg_itself_is_given(
    limits: AudioLimits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours but the object: no variable, no other descriptor, no file to write to."""
    monkeypatch.setenv("EMO_S3_SECRET_KEY", "kept from children")
    program = tmp_path / "ffmpeg"
    program.write_text(
        "#!/bin/sh\n"
        "until [ $(ulimit -n) = 32 ]; do :; done\n"  # they are set while it runs
        f"(echo x > {tmp_path}/written) 2> /dev/null\n"
        "{ env; ls -l /proc/self/fd; head -c 64000 /dev/zero; } | head -c 64000\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("worker.audio.program.find_ffmpeg", lambda: str(program))
    blob = Blob.from_bytes(b"audio")
    number = blob.fd
    said = decode_isolated(blob, limits)[0].samples.tobytes().rstrip(b"\0").decode()
    variables = set(re.findall(r"^(\w+)=", said, re.MULTILINE))
    assert "AV_LOG_FORCE_NOCOLOR" in variables
    assert variables <= {"PATH", "PWD", "AV_LOG_FORCE_NOCOLOR", "_", "SHLVL", "OLDPWD"}
    links = dict(re.findall(r"(\d+) -> (.*)", said))
    assert links.pop("0") == "/dev/null"
    assert links.pop("1").startswith("pipe:")
    assert links.pop("2").startswith("pipe:")
    assert links.pop(str(number)).startswith("/memfd:blob")
    (its_own,) = links.values()  # of `ls`
    assert its_own.startswith("/proc/")
    assert (tmp_path / "written").read_bytes() == b""


def test_a_process_is_replaced_after_many_files(
    limits: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one file may have left behind does not meet all that ever come."""
    monkeypatch.setattr(process, "_MOST_FILES", 3)
    processes = DecodeProcesses(1, limits)
    try:
        pids = []
        for _ in range(7):
            processes.decode(Blob.from_bytes(mp3(0.05)))
            pids += processes.pids
        assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6]
    finally:
        processes.close()


def test_a_process_that_has_grown_is_replaced(
    limits: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was when it came up is the measure, and ordinary files make it grow by less."""
    processes = DecodeProcesses(1, limits)
    try:
        pids = processes.pids
        for _ in range(3):
            processes.decode(Blob.from_bytes(mp3(0.05)))
        assert processes.pids == pids
        monkeypatch.setattr(process, "_MOST_GROWTH_BYTES", 0)
        processes.decode(Blob.from_bytes(mp3(0.05)))
        assert processes.pids != pids
    finally:
        processes.close()
