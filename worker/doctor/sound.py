"""Decoding: FFmpeg's libraries and program, the sandbox, and the search for speech."""

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from storage.errors import JobError
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.process import child_environment
from worker.clip import SAMPLE_RATE_HZ
from worker.doctor.findings import Category, Check, Line, fail, ok, skipped, warn
from worker.settings import WorkerSettings

_ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = "worker.audio.attempts"
OLDEST_AV, FIRST_TOO_NEW_AV = (17, 0, 1), (19,)
_LIMIT_SECONDS = 30.0
# FFmpeg's own name for what `av` is built on.
_LIBRARIES = (
    "import av, json; print(json.dumps([av.__version__, av.library_versions['libavcodec']]))"
)


def sound(settings: WorkerSettings) -> Category:
    """The checks."""
    return Category(
        "decoding",
        (
            Check("libraries", _libraries, limit_seconds=_LIMIT_SECONDS + 5),
            Check(
                "sandbox",
                lambda: _sandbox(settings),
                needs="libraries",
                limit_seconds=_LIMIT_SECONDS + 5,
            ),
            Check("program", _program, limit_seconds=2 * _LIMIT_SECONDS),
            Check("speech", _speech),
        ),
    )


def _libraries() -> Iterable[Line]:
    """In a process of its own, since libraries may crash when they are loaded."""
    ran = _run("-c", _LIBRARIES)
    if ran.returncode:
        yield fail(
            f"PyAV cannot be imported: {_last_line(ran.stderr, ran.returncode)}",
            "install it anew: `pip install --force-reinstall 'av>=17.0.1,<19'`",
            "doctor.md#decoding",
        )
        return
    version, codec = json.loads(ran.stdout)
    number = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    text = f"PyAV {version}, with libavcodec {'.'.join(map(str, codec))}"
    if OLDEST_AV <= number < FIRST_TOO_NEW_AV:
        yield ok(text)
    else:
        yield warn(
            f"{text}: tested is 17.0.1 up to 18", "`pip install 'av>=17.0.1,<19'`",
            "doctor.md#decoding",
        )  # fmt: skip


def _sandbox(settings: WorkerSettings) -> Iterable[Line]:
    """A process is confined as decode processes are, and tries to get out."""
    part_bytes = int(settings.window_seconds * SAMPLE_RATE_HZ) * SAMPLE_BYTES
    ran = _run("-m", ATTEMPTS, str(int(settings.decode_memory_bytes)), str(part_bytes))
    if ran.returncode:
        yield fail(
            f"decode processes do not start: {_last_line(ran.stderr, ran.returncode)}",
            f"look at EMO_DECODE_MEMORY_BYTES ({int(settings.decode_memory_bytes)})",
            "doctor.md#decoding",
        )
        return
    found = json.loads(ran.stdout)
    refused, possible = found["refused"], found["possible"]
    if refused or possible:
        can = f"; a hostile file could {', '.join(possible)}" if possible else ""
        yield fail(
            f"decode processes are not confined ({refused or 'the kernel said nothing'}){can}",
            "allow `seccomp` and `prctl`, as Docker and Kubernetes do by default",
            "doctor.md#sandbox",
        )
    else:
        yield ok("confined: tried to open, connect, fork, signal and spy, and could not")


def _program() -> Iterable[Line]:
    from worker.audio.program import find_ffmpeg  # noqa: PLC0415 (it may not be installed)

    try:
        program = find_ffmpeg()
    except JobError as error:
        yield fail(str(error), "Debian: `apt-get install ffmpeg`", "doctor.md#decoding")
        return
    said = subprocess.run(
        [program, "-version"], capture_output=True, timeout=_LIMIT_SECONDS, check=False
    ).stdout.decode(errors="replace")
    version = said.split()[2] if said.startswith("ffmpeg version ") else "of no version"
    yield ok(f"ffmpeg {version}: {program}")


def _speech() -> Iterable[Line]:
    missing = [name for name in ("onnxruntime", "silero_vad") if find_spec(name) is None]
    if missing:
        yield skipped(f"no {', '.join(missing)}: jobs with segments=speech are refused")
    else:
        yield ok("segments=speech can be served")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_SECONDS,
        check=False,
    )


def _last_line(said: str, status: int) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"exit status {status}"
