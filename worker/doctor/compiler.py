"""Whether Triton can build what calls our kernels: a C compiler, and a cache to load it from."""

import ctypes
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from worker.doctor.findings import Line, ok, skipped, warn

_SEE = "doctor.md#compiler"
_COMPILE_SECONDS = 30.0
_SLOW = "without, tapes run operation by operation, far slower"
_SOURCE = "#include <Python.h>\n#include <stdlib.h>\nint emostream_probe(void) { return 42; }\n"
_ANSWER = 42


def compiler(*, wanted: bool) -> Iterable[Line]:
    """Build and load a library as Triton would, in its cache; nothing stays there."""
    if not wanted:
        yield skipped("workers on a CPU need none")
        return
    # As Triton looks for one: triton/runtime/build.py.
    command = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if command is None or shutil.which(command) is None:
        yield warn(
            f"there is no C compiler: {command or 'neither CC nor gcc or clang on PATH'}; {_SLOW}",
            "Debian: `apt-get install gcc libc6-dev`; in Docker, the GPU image has one",
            _SEE,
        )
        return
    cache = cache_directory()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".emostream-", dir=existing) as folder:
            yield from _built_and_loaded(command, Path(folder), cache)
    except OSError as error:
        yield warn(
            f"the cache {cache} cannot be written: {error.strerror}; {_SLOW}",
            "set TRITON_CACHE_DIR to a directory that this user can write to",
            _SEE,
        )


def cache_directory() -> Path:
    """Where Triton keeps what it builds. Source: triton/knobs.py."""
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~/")
    given = os.environ.get("TRITON_CACHE_DIR")
    return Path(given or Path(home) / ".triton" / "cache").absolute()


def _built_and_loaded(command: str, folder: Path, cache: Path) -> Iterable[Line]:
    source, library = folder / "probe.c", folder / "probe.so"
    source.write_text(_SOURCE, encoding="ascii")
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton
    include = sysconfig.get_paths(scheme)["include"]
    built = subprocess.run(
        [command, source, "-O1", "-shared", "-fPIC", "-o", library, f"-I{include}"],
        capture_output=True,
        timeout=_COMPILE_SECONDS,
        check=False,
    )
    if built.returncode:
        said = built.stderr.decode(errors="replace").strip().splitlines()
        why = next((line for line in said if "error" in line), said[-1] if said else "it failed")
        yield warn(
            f"{command} does not build what Triton needs: {why}; {_SLOW}",
            "Debian: `apt-get install libc6-dev python3-dev`, for the Python that runs this",
            _SEE,
        )
        return
    try:
        probe = ctypes.CDLL(str(library)).emostream_probe
        works = probe() == _ANSWER
    except OSError as error:
        yield warn(
            f"nothing can be loaded from the cache {cache}: {error}; {_SLOW}",
            "set TRITON_CACHE_DIR to a directory that is not mounted noexec",
            _SEE,
        )
        return
    assert works
    yield ok(f"{command} builds, and {cache} lets it be loaded")
