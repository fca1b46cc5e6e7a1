"""The object stores: whether they may be read, listed and written to."""

from collections.abc import Callable, Iterable, Iterator

from storage.errors import JobError
from storage.objects.trial import Trial, open_trial
from worker.doctor.findings import Category, Check, Line, fail, ok, warn
from worker.settings import WorkerSettings
from worker.stores import open_named_store

_SEE = "doctor.md#store"
_ANSWER_SECONDS = 5.0


def store(settings: WorkerSettings) -> Category:
    """The checks of that for audio, and of that for outputs where it is another."""
    checks = list(_checks("EMO_STORE", settings, settings.store))
    other = settings.output_store
    if other and other != settings.store:
        checks += _checks("EMO_OUTPUT_STORE", settings, other)
    return Category("store", tuple(checks))


def _checks(name: str, settings: WorkerSettings, url: str) -> Iterator[Check]:
    for_audio = name == "EMO_STORE"
    writes = not for_audio or not settings.output_store or settings.output_store == url

    def read() -> Iterable[Line]:
        if not url:
            yield fail("EMO_STORE is not set", "set it: workers fetch audio from there", _SEE)
            return
        yield from _tried(
            lambda: open_named_store(settings, url, hasty=True).check(),
            done=f"{name} can be read",
            failed=f"{name}: ",
            complain=fail,
            todo="correct that: no worker starts without",
        )

    def listed() -> Iterable[Line]:
        yield from _tried(
            lambda: _trial(settings, url).list(),
            done=f"{name} can be listed",
            failed=f"{name} cannot be listed: ",
            complain=warn,
            todo="without that right, servers call an object that is missing a forbidden one",
        )

    def written() -> Iterable[Line]:
        left: list[str] = []
        yield from _tried(
            lambda: left.append(_trial(settings, url).write(settings.output_prefix)),
            done=f"{name} can be written to, below {settings.output_prefix}",
            failed=f"{name} cannot be written to: ",
            complain=warn,
            todo="jobs that want embeddings or frames fail without; all others need it not",
        )
        for key in filter(None, left):
            yield warn(f"{key} was written to see that, and may not be deleted", "delete it", _SEE)

    yield Check(f"read {name}", read)
    if for_audio:
        yield Check(f"list {name}", listed, needs=f"read {name}")
    if writes:
        yield Check(f"write {name}", written, needs=f"read {name}")


def _tried(
    trial: Callable[[], object],
    *,
    done: str,
    failed: str,
    complain: Callable[[str, str, str], Line],
    todo: str,
) -> Iterable[Line]:
    try:
        trial()
    except JobError as error:
        yield complain(f"{failed}{error}", todo, _SEE)
    else:
        yield ok(done)


def _trial(settings: WorkerSettings, url: str) -> Trial:
    return open_trial(
        url,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        timeout_seconds=_ANSWER_SECONDS,
    )
