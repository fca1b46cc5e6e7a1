"""Reading `model.pt`, in whatever format, and the copy that is made of it."""

import argparse
import collections
import enum
import fcntl
import os
import pathlib
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch

from tests.unit.model.directories import save
from tests.unit.model.parity import copied
from worker.model.checkpoint import read_checkpoint, read_copy, write_copy
from worker.model.config import ModelError
from worker.model.manifest import copy_path

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Colour(enum.Enum):
    """An enum, which pickles as a call of its class."""

    RED = 1


class Criterion:
    """An object with state, of a class that a reader does not have."""

    def __init__(self) -> None:
        self.weight = torch.zeros(3)


class Command:
    """An object whose unpickling runs code."""

    def __init__(self, function: object, argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Ask the reader to call a function."""
        return self.call


def assert_weights(found: object) -> None:
    """All of the weights and nothing else."""
    assert isinstance(found, dict)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("old_format", [False, True])
def test_objects_that_are_no_weights_are_inert(tmp_path: Path, old_format: bool) -> None:
    """A training run's leftovers neither hinder nor do anything."""
    canary = tmp_path / "canary"
    path = save(
        tmp_path,
        WEIGHTS,
        old_format=old_format,
        args=argparse.Namespace(lr=0.1, nested=argparse.Namespace(path=pathlib.Path("/data"))),
        criterion=Criterion(),
        colour=Colour.RED,
        loss=np.float64(0.5),
        history=np.arange(3),
        meters=collections.defaultdict(int, {"steps": 3}),
        evil=Command(eval, f"open({str(canary)!r}, 'w')"),
    )
    assert_weights(read_checkpoint(path))
    assert not canary.exists()


@pytest.mark.parametrize("old_format", [False, True])
def test_a_call_of_the_operating_system_is_refused(tmp_path: Path, old_format: bool) -> None:
    """A file that names one is no checkpoint; nothing of it is run."""
    canary = tmp_path / "canary"
    path = save(tmp_path, WEIGHTS, old_format=old_format, x=Command(os.system, f"touch {canary}"))
    with pytest.raises(ModelError, match=r"model\.pt is damaged, or holds objects"):
        read_checkpoint(path)
    assert not canary.exists()


def test_a_plain_state_dict_is_read_too(tmp_path: Path) -> None:
    """Weights at the top level, with no "model" around them."""
    torch.save(WEIGHTS, tmp_path / "model.pt")
    assert_weights(read_checkpoint(tmp_path / "model.pt"))


def test_the_old_format_is_read_and_reported(tmp_path: Path) -> None:
    """It costs memory, and whoever wonders about that finds it in the log."""
    path = save(tmp_path, WEIGHTS, old_format=True)
    with structlog.testing.capture_logs() as logs:
        assert_weights(read_checkpoint(path))
    assert [entry["event"] for entry in logs] == ["weights.old_format"]


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 500, -200])
def test_a_cut_off_file_is_an_error_that_says_so(
    tmp_path: Path, old_format: bool, keep: int
) -> None:
    """As an interrupted download leaves it."""
    path = save(tmp_path, WEIGHTS, old_format=old_format, more=torch.zeros(100))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.pt .*download it again"):
        read_checkpoint(path)


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    """An HTML page, a list, and nothing at all."""
    path = tmp_path / "model.pt"
    with pytest.raises(ModelError, match=r"model\.pt is not there"):
        read_checkpoint(path)
    path.write_bytes(b"<html>Not found</html>")
    with pytest.raises(ModelError, match="download it again"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds no weights"):
        read_checkpoint(path)


def test_the_copy_holds_the_same_and_is_used(tmp_path: Path) -> None:
    """Written once, beside the checkpoint, and nothing else is left there."""
    path = copied("tiny", tmp_path) / "model.pt"
    before = {item.name for item in path.parent.iterdir()}
    weights = {k: v for k, v in read_checkpoint(path).items() if isinstance(v, torch.Tensor)}
    assert read_copy(path) is None
    write_copy(path, weights)
    copy = read_copy(path)
    assert copy is not None
    assert copy.keys() == weights.keys()
    assert all(torch.equal(copy[name], weights[name]) for name in weights)
    assert {item.name for item in path.parent.iterdir()} == before | {"model.pt.safetensors"}


def test_a_copy_of_another_checkpoint_is_not_used(tmp_path: Path) -> None:
    """A new model.pt, even of the same size, has no copy yet."""
    path = save(tmp_path, WEIGHTS)
    write_copy(path, WEIGHTS)
    assert read_copy(path) is not None
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert read_copy(path) is None


def test_a_damaged_copy_is_not_used(tmp_path: Path) -> None:
    """It is reported, and made anew by the caller."""
    path = save(tmp_path, WEIGHTS)
    write_copy(path, WEIGHTS)
    copy_path(path).write_bytes(copy_path(path).read_bytes()[:-8])
    with structlog.testing.capture_logs() as logs:
        assert read_copy(path) is None
    assert [entry["event"] for entry in logs] == ["weights.copy_unreadable"]
    write_copy(path, WEIGHTS)
    assert read_copy(path) is not None


def test_where_no_copy_can_be_written_there_is_none(tmp_path: Path) -> None:
    """Reported, and no reason to fail."""
    path = save(tmp_path, WEIGHTS)
    (tmp_path / "model.pt.safetensors.part").touch()  # in the way, for root too
    with structlog.testing.capture_logs() as logs:
        write_copy(path, WEIGHTS)
    assert [entry["event"] for entry in logs] == ["weights.copy_not_written"]
    assert read_copy(path) is None


def test_of_two_workers_one_writes(tmp_path: Path) -> None:
    """The other goes on with what it has read, and leaves the file alone."""
    path = save(tmp_path, WEIGHTS)
    workplace = tmp_path / "model.pt.safetensors.part"
    workplace.mkdir()
    (workplace / "half").touch()
    held = os.open(workplace, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    write_copy(path, WEIGHTS)
    assert (workplace / "half").exists()
    assert read_copy(path) is None
    os.close(held)  # as when the other is killed
    write_copy(path, WEIGHTS)
    assert read_copy(path) is not None
    assert not workplace.exists()


def test_whoever_may_read_the_checkpoint_may_read_the_copy(tmp_path: Path) -> None:
    """One user downloads and converts; the service runs as another."""
    path = save(tmp_path, WEIGHTS)
    path.chmod(0o644)
    write_copy(path, WEIGHTS)
    assert copy_path(path).stat().st_mode & 0o777 == 0o644
