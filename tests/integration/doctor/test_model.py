"""Models whose files are not what they must be; nothing of them is changed by looking."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.findings import found
from tests.support.hub_stub import StubHub
from tests.support.worker_process import TINY
from worker.doctor.findings import State
from worker.doctor.model import model
from worker.model import hub, manifest
from worker.model.weights import prepare
from worker.settings import WorkerSettings

FILES = ("config.yaml", "tokens.txt", "model.pt")


def look(directory: Path | str) -> tuple[dict[str, State], str]:
    """The worst of each check, and all that was said."""
    said = found(model(WorkerSettings(model=str(directory))))
    worst = {
        check: max((state for state, _ in lines), key=list(State).index)
        for check, lines in said.items()
    }
    return worst, "\n".join(text for lines in said.values() for _, text in lines)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as a first start leaves it: verified, and with its copy."""
    directory = tmp_path_factory.mktemp("model") / "model"
    directory.mkdir()
    for name in FILES:
        shutil.copy(TINY / name, directory)
    manifest.write(directory, manifest.take(directory, "a/b", "v1", FILES))
    prepare(directory)
    return directory


@pytest.fixture
def directory(prepared: Path, tmp_path: Path) -> Path:
    """A model of the test's own, whose files have the times they had."""
    return Path(shutil.copytree(prepared, tmp_path / "model"))


def contents(directory: Path) -> dict[str, bytes]:
    """All that is there."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_model_as_it_should_be(directory: Path) -> None:
    """Nothing is changed by looking."""
    before = contents(directory)
    worst, text = look(directory)
    assert worst == {"files": State.OK, "hashes": State.OK}
    assert "9 labels, revision v1" in text
    assert contents(directory) == before


@pytest.mark.parametrize("name", ["model.pt", "tokens.txt"])
def test_damaged_files(directory: Path, name: str) -> None:
    """Damage that keeps size and time, which a start does not see, is seen here."""
    path = directory / name
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    worst, text = look(directory)
    assert worst["hashes"] is State.FAIL
    assert f"{path} is damaged" in text


def test_a_damaged_copy(directory: Path) -> None:
    """A start makes it anew, which takes longer; and one that is missing likewise."""
    copy = directory / "model.pt.safetensors"
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    worst, text = look(directory)
    assert (worst["hashes"], "makes it anew" in text) == (State.WARN, True)
    copy.unlink()
    worst, text = look(directory)
    assert (worst["hashes"], "worker model --prepare" in text) == (State.WARN, True)


def test_files_that_are_missing(directory: Path) -> None:
    """Weights, and what they mean."""
    (directory / "model.pt").unlink()
    worst, text = look(directory)
    assert (worst["hashes"], "model.pt is damaged" in text) == (State.FAIL, True)
    (directory / "config.yaml").unlink()
    worst, text = look(directory)
    assert (worst["files"], "config.yaml" in text) == (State.FAIL, True)


def test_a_model_that_is_not_the_one_that_was_published(directory: Path) -> None:
    """Whoever may write there has rewritten its manifest too."""
    taken = manifest.take(directory, hub.DEFAULT_MODEL, hub.DEFAULT_REVISION, FILES)
    manifest.write(directory, taken)
    worst, text = look(directory)
    assert (worst["hashes"], "not the one that was published" in text) == (State.FAIL, True)


def test_models_without_a_manifest_or_without_training(directory: Path) -> None:
    """There is nothing to compare with; labels mean nothing."""
    (directory / manifest.MANIFEST_NAME).unlink()
    assert look(directory)[0] == {"files": State.OK, "hashes": State.SKIPPED}
    (directory / manifest.UNTRAINED_FILE).touch()
    assert look(directory)[0]["files"] is State.WARN
    assert look("random:tiny")[0] == {"files": State.WARN, "hashes": State.SKIPPED}


def test_models_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not downloaded, from a hub that answers or does not; or no model at all."""
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    worst, text = look(hub.DEFAULT_MODEL)
    assert (worst["files"], "cannot be used" in text) == (State.FAIL, True)
    assert "| copy it there, or " in text
    with StubHub({}) as stub:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", stub.endpoint)
        worst, text = look(hub.DEFAULT_MODEL)
    assert worst == {"files": State.WARN, "hashes": State.SKIPPED}
    assert "worker model --prepare" in text
    assert look("/no/such")[0]["files"] is State.FAIL
    assert list(tmp_path.iterdir()) == []
