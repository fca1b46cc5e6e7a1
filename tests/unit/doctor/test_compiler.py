"""Compilers and caches that Triton could not work with."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.findings import one
from worker.doctor.compiler import compiler
from worker.doctor.findings import Category, Check, State


def built(cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[State, str]:
    """What the check of the compiler says, with its cache there."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    return one(Category("c", (Check("compiler", lambda: compiler(wanted=True)),)), "compiler")


def test_a_compiler_and_a_cache_as_they_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library is built and loaded, and nothing of it stays, not even the cache."""
    assert built(tmp_path / "not" / "there", monkeypatch)[0] is State.OK
    assert list(tmp_path.iterdir()) == []


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that CC names and that is not there."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C compiler" in built(tmp_path, monkeypatch)[1]
    monkeypatch.setenv("CC", "/no/such/cc")
    assert "/no/such/cc" in built(tmp_path, monkeypatch)[1]


def test_a_compiler_without_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the headers of Python are not installed."""
    gcc = shutil.which("gcc")
    assert gcc
    poor = tmp_path / "cc"
    poor.write_text(f'#!/bin/sh\nfor a; do shift; case "$a" in -I*) ;; *) set -- "$@" "$a";; esac; '
                    f'done\nexec {gcc} -nostdinc "$@"\n')  # fmt: skip
    poor.chmod(0o755)
    monkeypatch.setenv("CC", str(poor))
    state, text = built(tmp_path, monkeypatch)
    assert (state, "Python.h" in text, "python3-dev" in text) == (State.WARN, True, True)


def test_a_cache_that_is_mounted_noexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be loaded from it."""
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=4m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NO right to mount here: nothing was tested on a noexec cache")
    try:
        state, text = built(tmp_path / "cache", monkeypatch)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    assert (state, "noexec" in text) == (State.WARN, True)


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by root."""
    state, text = built(Path("/proc/self/cache"), monkeypatch)
    assert (state, "TRITON_CACHE_DIR" in text) == (State.WARN, True)


def test_the_cpu_needs_no_compiler() -> None:
    """So it is not asked for."""
    (line,) = compiler(wanted=False)
    assert line.state is State.SKIPPED
