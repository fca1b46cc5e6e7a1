"""What the manifest of a model directory notices, and what it lets pass."""

import os
from pathlib import Path

import pytest

from worker.model import manifest
from worker.model.manifest import MANIFEST_NAME, ModelDamaged, ModelUnavailable

LATER_SECONDS = 1_800_000_000  # a modification time that no file of the tests has by itself


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a directory of two files, with a manifest."""
    (tmp_path / "config.yaml").write_bytes(b"sizes: 12\n")
    (tmp_path / "model.pt").write_bytes(b"weights")
    manifest.write(tmp_path, manifest.take(tmp_path, "a/b", "v1", ["config.yaml", "model.pt"]))
    return tmp_path


def check(directory: Path) -> None:
    """Check the directory as a start does."""
    known = manifest.read(directory)
    assert known is not None
    manifest.check(directory, known)


def test_what_was_written_is_read(directory: Path) -> None:
    """Name, revision, size, sha256 and time of each file survive."""
    known = manifest.read(directory)

    assert known is not None
    assert (known.name, known.revision) == ("a/b", "v1")
    assert known.files["model.pt"] == manifest.FileRecord(
        size_bytes=7,
        sha256="9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        mtime_seconds=int((directory / "model.pt").stat().st_mtime),
    )
    assert {path.name for path in directory.iterdir()} == {"config.yaml", "model.pt", MANIFEST_NAME}


def test_a_directory_without_a_manifest_has_none(tmp_path: Path) -> None:
    """Neither an empty directory nor a missing one has a manifest, and that is no error."""
    assert manifest.read(tmp_path) is None
    assert manifest.read(tmp_path / "missing") is None


def test_verified_files_pass(directory: Path) -> None:
    """Files that nobody touched pass the check of a start and the full one."""
    check(directory)
    assert manifest.verify(directory) == manifest.read(directory)


def test_a_start_does_not_hash(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the recorded size and time are not read again, however large they are."""
    monkeypatch.setattr(manifest, "record", lambda path: pytest.fail(f"{path} was hashed"))

    check(directory)


def test_touched_files_are_hashed_once(directory: Path) -> None:
    """A copy has new times: its content is compared, and the manifest remembers the new times."""
    os.utime(directory / "model.pt", (LATER_SECONDS, LATER_SECONDS))

    check(directory)

    known = manifest.read(directory)
    assert known is not None
    assert known.files["model.pt"].mtime_seconds == LATER_SECONDS


def test_a_fraction_of_a_second_is_no_touch(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times that lost their fraction, as in an image's layers, do not cause hashing."""
    whole_seconds = int((directory / "model.pt").stat().st_mtime)
    os.utime(directory / "model.pt", (whole_seconds, whole_seconds))
    monkeypatch.setattr(manifest, "record", lambda path: pytest.fail(f"{path} was hashed"))

    check(directory)


def test_a_read_only_copy_passes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good copy whose manifest cannot be updated is still a good copy."""
    os.utime(directory / "model.pt", (LATER_SECONDS, LATER_SECONDS))

    def refuse(*_: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(manifest, "write", refuse)

    check(directory)


def test_changed_content_is_noticed(directory: Path) -> None:
    """Another content of the same size is named, with both hashes, once its time changed."""
    (directory / "model.pt").write_bytes(b"WEIGHTS")
    os.utime(directory / "model.pt", (LATER_SECONDS, LATER_SECONDS))

    with pytest.raises(ModelDamaged, match=r"model\.pt is damaged: .*9a129038.*found: .*14422b04"):
        check(directory)


def test_a_wrong_size_is_noticed(directory: Path) -> None:
    """A file of another size is named, with both sizes and what to do."""
    (directory / "model.pt").write_bytes(b"weigh")

    with pytest.raises(ModelDamaged, match=r"expected 7 bytes, found: 5 bytes\. Delete .*fetch"):
        check(directory)


def test_a_missing_file_is_noticed(directory: Path) -> None:
    """A file that was deleted is named."""
    (directory / "config.yaml").unlink()

    with pytest.raises(ModelDamaged, match=r"config\.yaml is damaged: .*found: No such file"):
        check(directory)


def test_verify_finds_what_a_start_cannot(directory: Path) -> None:
    """Damage that kept size and time passes a start; the full check finds it."""
    path = directory / "model.pt"
    before = path.stat()
    path.write_bytes(b"weighed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    check(directory)
    with pytest.raises(ModelDamaged, match=r"model\.pt is damaged"):
        manifest.verify(directory)


def test_verify_needs_a_manifest(tmp_path: Path) -> None:
    """Without a manifest there is nothing to verify against, which is said."""
    with pytest.raises(ModelUnavailable, match=f"has no {MANIFEST_NAME}"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "a/b", "revision": "v1"}'])
def test_a_damaged_manifest_is_noticed(directory: Path, text: str) -> None:
    """A manifest that cannot be understood is itself a damaged file."""
    (directory / MANIFEST_NAME).write_text(text)

    with pytest.raises(ModelDamaged, match=f"{MANIFEST_NAME} is damaged: expected a manifest"):
        manifest.read(directory)


def test_a_failed_write_leaves_the_old_manifest(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves the manifest that was there, and no draft."""
    before = manifest.read(directory)
    assert before is not None

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        manifest.write(directory, manifest.Manifest("a/b", "v2", {}))

    assert manifest.read(directory) == before
    assert {path.name for path in directory.iterdir()} == {"config.yaml", "model.pt", MANIFEST_NAME}
