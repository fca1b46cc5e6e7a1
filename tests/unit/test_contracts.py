"""The lines between the rooms hold: whoever crosses one is reported by `make check`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What is put into a copy of the code, and the contract that reports it.
CROSSINGS = {
    "worker/engine/rogue.py": (
        "import worker.delivery.settle",
        "a room of the worker imports from those below it alone",
    ),
    "worker/stages/rogue.py": (
        "import worker.bench.clips",
        "a room of the worker imports from those below it alone",
    ),
    "worker/rogue.py": ("", "a room of the worker imports from those below it alone"),
    "storage/redis/rogue.py": (
        "import storage.queue.lanes",
        "a room of the storage imports from those below it alone",
    ),
    "storage/wire/messages.py": (
        "import worker.clip",
        "producer and worker share storage, and never import each other",
    ),
    "worker/stages/fetch.py": ("import worker.stages.decode", "stages never import each other"),
    "worker/pipeline/rogue.py": (
        "import torch",
        "torch is the engine's and the model's, and the benchmark's of both",
    ),
    "storage/objects/rogue.py": (
        "import redis",
        "redis is storage's, where its servers and the queue are",
    ),
    "storage/queue/rogue.py": ("import minio", "minio is the object store's"),
    "producer/commands/submit.py": ("import rq", "rq is control's"),
    "producer/rogue.py": ("import torch", "the producer starts without torch"),
}


def lint(directory: Path) -> list[str]:
    """The contracts that are broken in a copy of the code."""
    program = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [program, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False
    )
    rows = ran.stdout.partition("Contracts:")[0].splitlines()
    assert any(row.endswith(("KEPT", "BROKEN")) for row in rows), ran.stdout + ran.stderr
    return [row.removesuffix(" BROKEN") for row in rows if row.endswith(" BROKEN")]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and their contracts."""
    for package in ("producer", "storage", "worker"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda *_: ["__pycache__"])
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_code_as_it_is_crosses_no_line(copy: Path) -> None:
    """Or the next test would say nothing."""
    assert lint(copy) == []


@pytest.mark.parametrize("name", CROSSINGS)
def test_a_module_that_crosses_a_line_is_reported(name: str, copy: Path) -> None:
    """By its contract, whether it is new or was there."""
    line, contract = CROSSINGS[name]
    path = copy / name
    before = path.read_text(encoding="utf-8") if path.exists() else '"""A rogue."""'
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    assert contract in lint(copy)
