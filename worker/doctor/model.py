"""The model: whether its files are there, and byte for byte what they must be."""

from collections.abc import Iterable
from pathlib import Path

from worker.doctor.findings import Category, Check, Line, fail, ok, skipped, warn
from worker.model import hub, manifest
from worker.model.config import ModelConfig, ModelError
from worker.model.manifest import Manifest, ModelUnavailable
from worker.model.probe import probe
from worker.settings import WorkerSettings

_SEE = "doctor.md#model"
_HUB_SECONDS = 5.0
_HASH_SECONDS = 180.0  # 2.5 GB from a slow disk
_GB = 1e9


def model(settings: WorkerSettings) -> Category:
    """The checks."""
    return Category(
        "model",
        (
            Check("files", lambda: _files(settings)),
            Check("hashes", lambda: _hashes(settings), needs="files", limit_seconds=_HASH_SECONDS),
        ),
    )


def _files(settings: WorkerSettings) -> Iterable[Line]:
    name = settings.model
    if name.startswith("random:"):
        yield warn(
            f"EMO_MODEL={name}: weights at random, whose labels mean nothing",
            f"for real ones: EMO_MODEL={hub.DEFAULT_MODEL}",
            _SEE,
        )
        return
    try:
        directory = hub.local_directory(name)
        known = manifest.read(directory) if directory else None
        if directory is None:
            directory = hub.download_of(name, settings.model_revision).directory
            known = manifest.read(directory)
            if known is None:
                yield from _not_downloaded(name, directory)
                return
        config = ModelConfig.from_directory(directory)
    except (ModelUnavailable, ModelError) as error:
        yield fail(str(error), "correct it: no worker starts with it", _SEE)
        return
    if (directory / manifest.UNTRAINED_FILE).exists():
        yield warn(
            f"{directory}: weights at random, whose labels mean nothing",
            f"for real ones: EMO_MODEL={hub.DEFAULT_MODEL}",
            _SEE,
        )
    revision = known.revision if known else "local"
    yield ok(f"{directory}: {len(config.labels)} labels, revision {revision}")


def _not_downloaded(name: str, directory: Path) -> Iterable[Line]:
    """It is to come from the hub, so that has to answer."""
    try:
        probe(hub.default_endpoint(), name, _HUB_SECONDS)
    except ModelUnavailable as error:
        yield fail(
            f"{name} is not in {directory}, and: {error}",
            "copy it there, or let this machine reach a hub",
            _SEE,
        )
    else:
        yield warn(
            f"{name} is not in {directory} yet: the first worker that starts downloads it",
            "beforehand: `python -m worker model --prepare`",
            _SEE,
        )


def _hashes(settings: WorkerSettings) -> Iterable[Line]:
    """Every file, and the copy that is loaded, is hashed; nothing is written."""
    name = settings.model
    if name.startswith("random:"):
        yield skipped("made by each worker")
        return
    directory = hub.local_directory(name)
    directory = directory or hub.download_of(name, settings.model_revision).directory
    known = manifest.read(directory)
    if known is None:
        here = directory.exists()
        yield skipped("no manifest to compare with" if here else "not downloaded yet")
        return
    try:
        manifest.verify(directory)
    except ModelUnavailable as error:
        yield fail(str(error), "no worker that loads it starts", _SEE)
        return
    published = hub.KNOWN_SHA256.get((known.name, known.revision), {})
    for file, sha256 in published.items():
        if known.files[file].sha256 != sha256:
            yield fail(
                f"{directory / file} is not the one that was published: its manifest says sha256 "
                f"{known.files[file].sha256}, and it must be {sha256}",
                f"delete {directory}, and fetch the model again",
                _SEE,
            )
            return
    yield from _copy(directory, known)
    size = sum(file.size_bytes for file in known.files.values())
    yield ok(f"{len(known.files)} files, {size / _GB:.1f} GB, have the hashes that were recorded")


def _copy(directory: Path, known: Manifest) -> Iterable[Line]:
    """What is loaded; one that is not as recorded is made anew, which takes a start longer."""
    copy = manifest.copy_path(directory / manifest.CHECKPOINT_FILE)
    if not copy.exists():
        yield warn(
            "there is no copy of the weights to load: each start reads the checkpoint",
            "`python -m worker model --prepare`, by a user who may write there",
            "model.md#starting-offline",
        )
    elif known.copy is None or manifest.record(copy).sha256 != known.copy.sha256:
        yield warn(
            f"{copy} is not what was recorded: the next start makes it anew",
            "`python -m worker model --prepare`",
            _SEE,
        )
