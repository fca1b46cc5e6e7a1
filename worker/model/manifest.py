"""The manifest of a verified model directory: what each file must be.

`emostream-manifest.json` is written beside the files, after all of them were verified: a directory
without one may be half a download. A start compares sizes and modification times only; hashing
2 GB each time would cost seconds. What it loads is the copy of the weights, a third as large, and
that is hashed each time. `verify` hashes everything.
"""

import dataclasses
import hashlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

log = structlog.get_logger(__name__)

MANIFEST_NAME = "emostream-manifest.json"
CHECKPOINT_FILE = "model.pt"
# A file of this name in a model's directory says that its weights are random.
UNTRAINED_FILE = "UNTRAINED"


class ModelUnavailable(Exception):
    """There is no model to start with. The message says why, and what to do about it."""


class ModelDamaged(ModelUnavailable):
    """A file of the model is not what it must be; the message names it, expected and found."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as it was when it was verified.

    Whole seconds: images and archives drop the fraction, and every start would hash again.
    """

    size_bytes: int
    sha256: str
    mtime_seconds: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which model the files of a directory are, and a record of each by its name.

    `copy` is that of the weights' copy, which is made at the first start; None before.
    """

    name: str
    revision: str
    files: dict[str, FileRecord]
    copy: FileRecord | None = None


_FORMAT = TypeAdapter(Manifest)


def copy_path(source: Path) -> Path:
    """Where the safetensors copy of a checkpoint is kept: beside it."""
    return source.with_name(f"{source.name}.safetensors")


def record(path: Path) -> FileRecord:
    """Hash the file. Raises ModelDamaged where there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, "a readable file", error.strerror or str(error)) from error
    return FileRecord(stat.st_size, sha256, int(stat.st_mtime))


def take(directory: Path, name: str, revision: str, files: Iterable[str]) -> Manifest:
    """Hash `files` of the directory and describe them; nothing is written."""
    return Manifest(name, revision, {file: record(directory / file) for file in files})


def read(directory: Path) -> Manifest | None:
    """Read the directory's manifest; None where there is none. Raises ModelDamaged."""
    path = directory / MANIFEST_NAME
    try:
        return _FORMAT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, "a readable file", error.strerror or str(error)) from error
    except ValidationError as error:
        fault = error.errors()[0]["msg"]
        raise _damaged(path, "a manifest written by emostream", fault) from error


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest in one step: a reader finds the old one, the new one, or none."""
    draft = directory / f".{MANIFEST_NAME}.{uuid.uuid4().hex}"
    try:
        with draft.open("xb") as file:
            file.write(_FORMAT.dump_json(manifest, indent=2) + b"\n")
            file.flush()
            # It vouches for the files, so it must not survive a crash that they do not.
            os.fsync(file.fileno())
        draft.replace(directory / MANIFEST_NAME)
    finally:
        draft.unlink(missing_ok=True)


def check(directory: Path, manifest: Manifest) -> None:
    """Compare sizes and times with the manifest; hash only what was touched.

    Files that were copied have new times: they are hashed once, and the manifest remembers.
    Raises ModelDamaged.
    """
    files = {}
    for name, expected in manifest.files.items():
        path = directory / name
        try:
            stat = path.stat()
        except OSError as error:
            raise _damaged(path, _text(expected), error.strerror or str(error)) from error
        if stat.st_size != expected.size_bytes:
            raise _damaged(path, f"{expected.size_bytes} bytes", f"{stat.st_size} bytes")
        if int(stat.st_mtime) == expected.mtime_seconds:
            files[name] = expected
            continue
        log.info("model.file_rehashed", file=str(path), reason="its modification time changed")
        files[name] = _rehashed(path, expected)
    if files != manifest.files:
        try:
            write(directory, dataclasses.replace(manifest, files=files))
        except OSError as error:
            # A read-only copy is as good; it is hashed again at the next start.
            log.warning("model.manifest_not_updated", directory=str(directory), error=str(error))


def vouches_for_copy(directory: Path, copy: Path) -> bool:
    """Whether the weights' copy is, byte for byte, what was recorded when it was made.

    A directory without a manifest vouches for nothing, and nothing is asked of it.
    """
    manifest = read(directory)
    if manifest is None or not copy.exists():
        return True
    expected = manifest.copy
    try:
        if expected and _rehashed(copy, expected):
            return True
    except ModelDamaged:
        pass  # what it was made of need not be
    log.warning("model.copy_refused", file=str(copy), recorded=expected is not None)
    return False


def verify_original(directory: Path, name: str) -> None:
    """Hash the file that a copy is to be made of. Raises ModelDamaged."""
    manifest = read(directory)
    if manifest and name in manifest.files:
        _rehashed(directory / name, manifest.files[name])


def record_copy(directory: Path, copy: Path) -> None:
    """Remember the weights' copy that was just made, where there is a manifest."""
    manifest = read(directory)
    if manifest is None or not copy.exists():
        return
    try:
        write(directory, dataclasses.replace(manifest, copy=record(copy)))
    except OSError as error:
        # Without a record it is made anew at each start, from what was verified.
        log.warning("model.manifest_not_updated", directory=str(directory), error=str(error))


def verify(directory: Path) -> Manifest:
    """Hash every file of the manifest again and return it; the copy is hashed at each start.

    Raises ModelDamaged for a file that is not as recorded, ModelUnavailable without a manifest.
    """
    manifest = read(directory)
    if manifest is None:
        raise ModelUnavailable(
            f"{directory} has no {MANIFEST_NAME}, so there is nothing to verify it against. "
            "Only directories that emostream downloaded have one."
        )
    for name, expected in manifest.files.items():
        _rehashed(directory / name, expected)
    return manifest


def _rehashed(path: Path, expected: FileRecord) -> FileRecord:
    """Hash the file and return its record, which differs from `expected` in its time alone."""
    found = record(path)
    if (found.size_bytes, found.sha256) != (expected.size_bytes, expected.sha256):
        raise _damaged(path, _text(expected), _text(found))
    return found


def _text(file: FileRecord) -> str:
    """Describe a record in an error message."""
    return f"{file.size_bytes} bytes with sha256 {file.sha256}"


def _damaged(path: Path, expected: str, found: str) -> ModelDamaged:
    """Say which file is damaged, and how to go on."""
    return ModelDamaged(
        f"{path} is damaged: expected {expected}, found: {found}. Delete {path.parent} and fetch "
        "the model again; if the file was changed on purpose, copy the directory without its "
        f"{MANIFEST_NAME} and set EMO_MODEL to the copy."
    )
