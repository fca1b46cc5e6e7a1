"""The clips of a run in the store, for as long as it takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from producer.sources import Source, place, upload
from producer.stress.alone import Clip, StressFailed
from producer.stress.clips import Lengths, draw_clips
from storage.errors import JobError
from storage.objects.local_files import named_files
from storage.objects.store import ManagedStore
from storage.terminal.text import tell


@contextmanager
def placed(
    source: Lengths | str,
    *,
    different: int,
    seed: int,
    store: ManagedStore | None,
    store_url: str,
    needed: Callable[[], bool],
) -> Iterator[list[Clip]]:
    """Clips that were drawn, or the audio files of a directory; what was uploaded is removed.

    It stays where it is `needed` at the end, for jobs that may run on. Raises StressFailed,
    JobError, OSError.
    """
    sources: list[Source] = []
    try:
        if isinstance(source, Lengths):
            if store is None:
                raise StressFailed("--clips: set EMO_STORE to where clips can be uploaded")
            for name, data in draw_clips(source, different, seed):
                sources.append(upload(name, data, store))
        else:
            for name in named_files([source]):
                try:
                    sources.append(place(name, store, store_url))
                except ValueError as error:
                    raise StressFailed(str(error)) from error
        if not sources:
            raise StressFailed(f"there is no audio in {source}")
        yield [Clip(each.name, each.key) for each in sources]
    finally:
        uploaded = [each.key for each in sources if each.uploaded]
        if uploaded and needed():
            tell(
                f"{len(uploaded)} upload(s) stay, for jobs that may run on: later "
                "`producer purge-uploads` deletes them"
            )
        else:
            _remove(uploaded, store)


def _remove(keys: list[str], store: ManagedStore | None) -> None:
    """Remove them, or say which are left and why."""
    left, why = [], ""
    for key in keys:
        try:
            assert store is not None
            store.delete(key)
        except JobError as error:
            left.append(key)
            why = str(error)
    if left:
        tell(f"{len(left)} uploads could not be removed: {why}", *left)
