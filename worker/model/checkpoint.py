"""The weights in a model's directory: `model.pt`, and the copy of it that is quick to load.

`model.pt` may hold three times as much as inference needs (optimiser state) and arbitrary pickled
objects. It is memory-mapped, so that what is not used is never read, and unpickled by torch's
restricted unpickler: an object that is no tensor or plain container becomes an inert placeholder.
Once its tensors are known to be good they are written beside it as a safetensors file.
"""

import contextlib
import fcntl
import os
import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import structlog
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worker.model.config import ModelError
from worker.model.manifest import copy_path

log = structlog.get_logger(__name__)

# The old format is four pickles in a row: magic number, version, system, and the checkpoint.
OLD_FORMAT_PICKLES = 4


class Placeholder:
    """Stands for an object of a class that is not needed: it takes any state and does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> "Placeholder":
        """Take the arguments of whatever class this stands for."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class PlaceholderDict:
    """Stands for a dict with a factory, which pickles fill item by item: it is a plain dict."""

    def __new__(cls, *_args: object) -> dict[object, object]:  # type: ignore[misc]  # on purpose
        """Leave the factory out."""
        return {}


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """The weights in `model.pt` by name, on the CPU. Raises ModelError if it cannot be read.

    They are views of the mapped file, which must not change while they are in use; a file in the
    old format cannot be mapped, and is read as a whole.
    """
    is_zip = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(list(_placeholders(path, is_zip))):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except MemoryError:
        raise
    except FileNotFoundError:
        raise ModelError(f"{path} is not there; a model's directory holds its weights") from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is damaged, or holds objects that are refused; download it again, or save it "
            "where it comes from as torch.save({'model': checkpoint['model']}, path)"
        ) from error
    except Exception as error:  # a damaged file can fail in any way at all
        raise ModelError(
            f"{path} cannot be read as a PyTorch checkpoint: {error}; download it again"
        ) from error
    weights = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        raise ModelError(f"{path} holds no weights: neither a state dict nor one under 'model'")
    if not is_zip:
        log.warning(
            "weights.old_format",
            path=str(path),
            effect="it cannot be mapped: all of it, optimiser state too, was read into memory",
        )
    return weights


def _placeholders(path: Path, is_zip: bool) -> Iterator[tuple[type, str]]:
    """A placeholder for each class that the checkpoint names and torch does not know as safe."""
    if is_zip:
        unknown = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    else:
        with path.open("rb") as file:
            names = {name for _ in range(OLD_FORMAT_PICKLES) for name in _globals(file)}
        unknown = {name for name in names if not name.startswith("torch.")}
        unknown.discard("collections.OrderedDict")
    if unknown:
        log.info("weights.objects_ignored", path=str(path), classes=sorted(unknown))
    for name in unknown:
        yield (PlaceholderDict if name == "collections.defaultdict" else Placeholder), name


def _globals(file: IO[bytes]) -> Iterator[str]:
    """The classes and functions that one pickle names, as Python 3 calls them; runs nothing."""
    for opcode, argument, _position in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (module, name))
            yield f"{IMPORT_MAPPING.get(module, module)}.{name}"


def read_copy(source: Path) -> dict[str, Tensor] | None:
    """The tensors of the checkpoint's copy, mapped; None if there is none of this very file."""
    path = copy_path(source)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as copy:
            if (copy.metadata() or {}) != _identity(source):
                return None
            return {name: copy.get_tensor(name) for name in copy.keys()}  # noqa: SIM118 - no dict
    except (OSError, SafetensorError) as error:
        log.warning("weights.copy_unreadable", path=str(path), error=str(error))
        return None


def write_copy(source: Path, tensors: Mapping[str, Tensor]) -> bool:
    """Write the checkpoint's copy, whole or not at all; False, and logged, where that cannot be.

    Of several workers that begin at once in one directory, one writes.
    """
    path = copy_path(source)
    try:
        with _workplace(path) as workplace:
            unfinished = workplace / path.name
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, unfinished, _identity(source))
            unfinished.chmod(source.stat().st_mode & 0o666)  # it is made for its owner alone
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        log.warning("weights.copy_not_written", path=str(path), error=str(error))
        return False
    log.info("weights.copy_written", path=str(path))
    return True


@contextlib.contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """A folder beside `path` for one writer at a time. Raises BlockingIOError for another one.

    Half a file that a killed writer leaves is found here by the next, and thrown away.
    """
    folder = path.with_name(f"{path.name}.part")
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            _empty(folder)
            yield folder
        finally:
            _empty(folder)
            folder.rmdir()
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _identity(source: Path) -> dict[str, str]:
    """What tells one `model.pt` from another: a changed file has another copy."""
    status = source.stat()
    return {"source_size": str(status.st_size), "source_mtime_ns": str(status.st_mtime_ns)}
