"""`python -m bench.gpu` has no mistakes that a CPU can find: a GPU's minutes are dear."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.worker_process import ROOT

pytest.importorskip("triton", reason="NO TRITON: bench.gpu is not tested on this machine")


def bench_gpu(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, away from a developer's settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--out", str(out), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.mark.parametrize("section", ["engine", "kernels", "feed", "start", "reference"])
def test_each_section_comes_to_its_end(section: str, tmp_path: Path) -> None:
    """Every step of it gives something, and the findings say that no GPU was there."""
    if section == "reference" and not importlib.util.find_spec("funasr"):
        pytest.skip("NO FUNASR: the reference's side is tested in .venv-reference alone")
    ran = bench_gpu(tmp_path, "--dry", "--only", section)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / f"{section}.json").read_text())
    assert found["ended"]
    assert found["dry"]


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    """Before anything runs."""
    ran = bench_gpu(tmp_path, "--only", "engine,speed")
    assert ran.returncode == 2
    assert "speed" in ran.stderr
