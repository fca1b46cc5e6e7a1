"""From a model's name to a verified directory: `resolve`.

A directory is used as it is. A ModelScope id is downloaded once, at a pinned revision, verified
and remembered in a manifest; from then on the hub is not asked again.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from worker.model import manifest
from worker.model.manifest import Manifest, ModelDamaged, ModelUnavailable
from worker.model.probe import DEFAULT_PROBE_SECONDS, probe

if TYPE_CHECKING:
    from modelscope_hub.types import FileInfo

log = structlog.get_logger(__name__)

DEFAULT_MODEL = "iic/emotion2vec_plus_large"
# The last tag labels only five of the nine classes: docs/decisions/0002-model-pin.md.
DEFAULT_REVISION = "767b2e00f04e0b75b5408c73be0d666328808af5"

FILES = ("configuration.json", "config.yaml", "tokens.txt", "model.pt")

# sha256 of what decides the answers: a hub or mirror that serves something else is refused.
KNOWN_SHA256 = {
    (DEFAULT_MODEL, DEFAULT_REVISION): {
        "config.yaml": "f4fa0eb82cc78bfebb43c56d68791afb01788085a18897d20999af7bc45d51d3",
        "tokens.txt": "866121e470057b847d7a50e9923509141fb2924392f53385a186482a1ec0fb7f",
        "model.pt": "be501a01f26fcdc7663a062dff86af839afbaef7c4de32f5e42d7e1ad2784da4",
    }
}

_MODEL_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A directory that holds a model, and which model it is; results carry name and revision."""

    directory: Path
    name: str
    revision: str


def resolve(
    model: str,
    revision: str,
    *,
    probe_seconds: float | None = None,
    cache: Path | None = None,
) -> ModelSource:
    """Find the model's directory, or download and verify it.

    Args:
        model: A directory, or a ModelScope id `owner/name`.
        revision: Tag or commit of a ModelScope id; empty for the pinned one of
            `DEFAULT_MODEL`. A directory knows its own.
        probe_seconds: How long the hub may take to answer at all; 10 by default.
        cache: Where downloads are kept; `MODELSCOPE_CACHE`, or `~/.cache/modelscope`, by default.

    Raises:
        HubUnreachable: Nothing is downloaded yet, and the hub does not answer.
        ModelDamaged: A file is not what the manifest, the hub or this module says it must be.
        ModelUnavailable: The base of both, and what is raised for names that are not understood.
    """
    if local := local_directory(model):
        return _local(local)
    wanted = download_of(model, revision, cache)
    if not _is_verified(wanted):
        with _locked(wanted.directory):
            # Another worker may have finished the download while this one waited.
            if not _is_verified(wanted):
                _fetch(wanted, probe_seconds or DEFAULT_PROBE_SECONDS)
    return wanted


def local_directory(model: str) -> Path | None:
    """The directory that the name is of, if there is one."""
    given = Path(os.path.expanduser(model))
    return given.resolve() if model and given.is_dir() else None


def download_of(model: str, revision: str, cache: Path | None = None) -> ModelSource:
    """Where the download of a ModelScope id lies, whether it is there or not.

    Raises ModelUnavailable for names that are not understood.
    """
    if not _MODEL_ID.fullmatch(model):
        raise ModelUnavailable(
            f"EMO_MODEL={model} is neither a directory that exists nor a ModelScope id. Give a "
            f"directory, an id such as {DEFAULT_MODEL}, or random:large or random:tiny."
        )
    pinned = _pinned(model, revision)
    # A place of ours alone: where the client itself keeps snapshots has changed over its versions.
    directory = (cache or _default_cache()).absolute() / "emostream" / model / pinned
    return ModelSource(directory, model, pinned)


def _pinned(model: str, revision: str) -> str:
    """Return the revision to ask for; only the default model has one by itself."""
    if not revision and model == DEFAULT_MODEL:
        return DEFAULT_REVISION
    if not revision:
        raise ModelUnavailable(
            f"EMO_MODEL_REVISION is not set, and no revision of {model} is pinned: set it to a tag "
            "or commit. A branch such as master moves, and results would not say what made them."
        )
    if not _REVISION.fullmatch(revision):
        raise ModelUnavailable(
            f"EMO_MODEL_REVISION={revision} is not a tag or commit of {model}: give one made of "
            "letters, digits, dots, dashes and underscores."
        )
    return revision


def _default_cache() -> Path:
    """Where the ModelScope client keeps what it downloads."""
    configured = os.environ.get("MODELSCOPE_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "modelscope"


def default_endpoint() -> str:
    """The hub that the ModelScope client would ask; `http://` is allowed."""
    endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
    return (endpoint if "://" in endpoint else f"https://{endpoint}").rstrip("/")


def _local(directory: Path) -> ModelSource:
    """Use a directory as it is; one with a manifest must agree with it."""
    known = manifest.read(directory)
    if known is None:
        return ModelSource(directory, directory.name, "local")
    manifest.check(directory, known)
    return ModelSource(directory, known.name, known.revision)


def _is_verified(wanted: ModelSource) -> bool:
    """Whether the wanted files are there, complete and verified. Raises ModelDamaged."""
    known = manifest.read(wanted.directory)
    if known is None or (known.name, known.revision) != (wanted.name, wanted.revision):
        return False
    manifest.check(wanted.directory, known)
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make the directory, and hold its lock: one process downloads, the others wait."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = directory.with_name(f"{directory.name}.lock").open("w")
    except OSError as error:
        raise ModelUnavailable(
            f"The model cannot be stored: {error}. Set MODELSCOPE_CACHE to a directory that can "
            "be written, with 4 GB free."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("model.download_awaited", directory=str(directory))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing the file lets go of the lock, as does the death of the process


def _fetch(wanted: ModelSource, probe_seconds: float) -> None:
    """Download the wanted files, verify them, and write the manifest last."""
    endpoint = default_endpoint()
    probe(endpoint, wanted.name, probe_seconds)
    listing = _listing(endpoint, wanted)
    log.info("model.download_started", model=wanted.name, revision=wanted.revision, hub=endpoint)
    try:
        _download(endpoint, wanted)
        found = manifest.take(wanted.directory, wanted.name, wanted.revision, FILES)
        _compare(wanted, found, listing)
    except ModelDamaged:
        shutil.rmtree(wanted.directory)
        raise
    manifest.write(wanted.directory, found)
    log.info("model.download_verified", model=wanted.name, directory=str(wanted.directory))


def _listing(endpoint: str, wanted: ModelSource) -> "dict[str, FileInfo]":
    """Ask the hub what it has for the wanted revision: size and sha256 by file name."""
    from modelscope_hub import HubApi  # noqa: PLC0415 - 0.5 s, and not needed offline
    from modelscope_hub.errors import HubError  # noqa: PLC0415 - the same

    try:
        files = HubApi(endpoint=endpoint).list_repo_files(
            wanted.name, "model", revision=wanted.revision
        )
    except (HubError, OSError) as error:
        raise ModelUnavailable(
            f"{endpoint} gives no files for EMO_MODEL={wanted.name} at "
            f"EMO_MODEL_REVISION={wanted.revision}: {_headline(error)}. Check both names; there "
            "is no directory of that name either."
        ) from error
    listing = {file.path: file for file in files}
    if missing := [name for name in FILES if name not in listing]:
        raise ModelUnavailable(
            f"{wanted.name} at revision {wanted.revision} has no {', '.join(missing)}: it is not "
            f"an emotion2vec model. Set EMO_MODEL to one, such as {DEFAULT_MODEL}."
        )
    return listing


def _download(endpoint: str, wanted: ModelSource) -> None:
    """Have the ModelScope client fetch the wanted files; what it has in part, it resumes."""
    from modelscope import snapshot_download  # noqa: PLC0415 - takes seconds, and imports torch
    from modelscope_hub import errors  # noqa: PLC0415 - see _listing

    try:
        with _bars_on_terminals_only():
            snapshot_download(
                wanted.name,
                revision=wanted.revision,
                endpoint=endpoint,
                cache_dir=wanted.directory.parent,  # for its lock files
                local_dir=str(wanted.directory),
                allow_patterns=list(FILES),
            )
    except errors.FileDownloadError as error:
        name, fault = next(iter(error.failed_files.items()))
        if isinstance(fault, errors.FileIntegrityError):
            raise _refused(wanted, name, _headline(fault)) from error
        raise _interrupted(endpoint, wanted, f"{name}: {_headline(fault)}") from error
    except (errors.HubError, OSError) as error:
        raise _interrupted(endpoint, wanted, _headline(error)) from error


@contextlib.contextmanager
def _bars_on_terminals_only() -> Iterator[None]:
    """Silence the client's progress bars in log files: it has no setting for that."""
    if sys.stderr.isatty():
        yield
        return
    logging.getLogger("modelscope_hub").setLevel(logging.WARNING)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _compare(wanted: ModelSource, found: Manifest, listing: "dict[str, FileInfo]") -> None:
    """Compare the files on disk with the hub's listing and with what is known of the model."""
    known = KNOWN_SHA256.get((wanted.name, wanted.revision), {})
    for name, file in found.files.items():
        # A hub may list neither; the client then has checked the length of the answer only.
        size_bytes = listing[name].size or file.size_bytes
        if file.size_bytes != size_bytes:
            raise _refused(wanted, name, f"expected {size_bytes} bytes, got {file.size_bytes}")
        for sha256 in (listing[name].sha256, known.get(name)):
            if sha256 and file.sha256 != sha256.lower():
                raise _refused(wanted, name, f"expected sha256 {sha256}, got {file.sha256}")


def _refused(wanted: ModelSource, file: str, fault: str) -> ModelDamaged:
    """Say which file was damaged on its way, and that nothing of it is left."""
    return ModelDamaged(
        f"{file} of {wanted.name} at revision {wanted.revision} arrived damaged: {fault}. The "
        f"download in {wanted.directory} has been deleted: start again. If it happens again, the "
        "hub serves another file than the one that was published; try another MODELSCOPE_ENDPOINT."
    )


def _interrupted(endpoint: str, wanted: ModelSource, fault: str) -> ModelUnavailable:
    """Say that the download broke off, and that it can go on."""
    return ModelUnavailable(
        f"The download of {wanted.name} from {endpoint} broke off: {fault}. Start again to go on "
        "from there; nothing is used until all of it is there and verified."
    )


def _headline(error: BaseException) -> str:
    """Return the first line: the client's errors go on with the request and the whole answer."""
    return (str(error).splitlines() or [type(error).__name__])[0]
