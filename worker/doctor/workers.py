"""The workers that share these jobs: whether they are well, and the same."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from storage.queue.workers import State, Worker, fellows
from storage.redis.connection import RedisError, connect
from storage.wire.messages import Keys
from worker.doctor.findings import Category, Check, Line, fail, ok, skipped, warn
from worker.settings import WorkerSettings

_SEE = "doctor.md#workers"
_ANSWER_SECONDS = 5.0
_MOST_NAMED = 5
_MOST_CHARACTERS = 60
_HERE = "these settings"
# What takes nothing until somebody, or something, helps.
_UNWELL = {State.SICK, State.STORE_AWAY, State.REDIS_AWAY, State.STUCK, State.SILENT}


def workers(settings: WorkerSettings) -> Category:
    """The checks."""
    told: list[Worker] = []

    def take(look: Callable[[Sequence[Worker]], Iterable[Line]]) -> Iterable[Line]:
        if told:
            yield from look(told)
        else:
            yield skipped("there is none to look at")

    def ask() -> Iterable[Line]:
        if not settings.redis_url:
            yield skipped("EMO_REDIS_URL is not set")
            return
        try:
            with connect(
                settings.redis_url, name="emostream-doctor", timeout_seconds=_ANSWER_SECONDS
            ) as client:
                told.extend(fellows(client, Keys(settings.prefix)))
        except RedisError as error:
            yield skipped(f"they say it in Redis: {error}")
            return
        yield from _well(told, settings.prefix)

    return Category(
        "workers",
        (
            Check("well", ask),
            Check("model", lambda: take(_same_model)),
            Check("dtype", lambda: take(_same_dtype)),
            Check("release", lambda: take(_same_release)),
            Check("agreement", lambda: take(lambda all_: _same_settings(all_, settings))),
        ),
    )


def _well(told: Sequence[Worker], prefix: str) -> Iterable[Line]:
    if not told:
        yield ok(f"none runs under EMO_PREFIX={prefix}")
        return
    unwell = [worker for worker in told if worker.state in _UNWELL]
    for worker in unwell:
        yield warn(
            f"{worker.name} takes no jobs ({worker.state}): {worker.sickness or 'see its log'}",
            "mend that; it goes on by itself",
            "operations.md#what-goes-wrong",
        )
    if not unwell:
        states = ", ".join(sorted({worker.state for worker in told}))
        yield ok(f"{len(told)} under EMO_PREFIX={prefix}: {states}")


def _same_model(told: Sequence[Worker]) -> Iterable[Line]:
    models = _by(told, lambda worker: f"{worker.model} at {worker.revision}")
    if len(models) > 1:
        yield fail(
            f"workers run different models: {_listed(models)}",
            "give all the same EMO_MODEL and EMO_MODEL_REVISION, or a prefix of their own",
            _SEE,
        )
    else:
        yield ok(f"all run {next(iter(models))}")


def _same_dtype(told: Sequence[Worker]) -> Iterable[Line]:
    formats = _by(told, lambda worker: worker.dtype)
    if len(formats) > 1:
        yield warn(
            f"workers compute in different formats: {_listed(formats)}",
            "where the last digits of scores matter, give all the same EMO_DTYPE",
            _SEE,
        )
    else:
        yield ok(f"all compute in {next(iter(formats))}")


def _same_release(told: Sequence[Worker]) -> Iterable[Line]:
    releases = _by(told, lambda worker: worker.version)
    if len(releases) > 1:
        yield warn(
            f"workers are of different releases: {_listed(releases)}",
            "while they are replaced one after another that is right; else replace the older ones",
            _SEE,
        )
    else:
        yield ok(f"all are of release {next(iter(releases))}")


def _same_settings(told: Sequence[Worker], settings: WorkerSettings) -> Iterable[Line]:
    """Of each setting that all should agree on: who has what, and what would be started here."""
    everyone: list[tuple[str, Mapping[str, str]]] = [
        *((worker.name, worker.settings) for worker in told),
        (_HERE, settings.agreed()),
    ]
    agreed = True
    for variable in sorted({name for _, known in everyone for name in known}):
        values: dict[str, list[str]] = defaultdict(list)
        for who, known in everyone:
            if variable in known:  # other releases have others
                values[known[variable][:_MOST_CHARACTERS] or "empty"].append(who)
        if len(values) > 1:
            agreed = False
            yield warn(
                f"{variable} differs: {_listed(values)}",
                "give all the same; those that are to differ, a prefix of their own",
                _SEE,
            )
    if agreed:
        yield ok("all have the settings that they should agree on, and so has whoever asks")


def _by(told: Sequence[Worker], key: Callable[[Worker], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for worker in told:
        found[key(worker)].append(worker.name)
    return found


def _listed(found: Mapping[str, Sequence[str]]) -> str:
    """`float16 (a, b), float32 (c)`, those of the most first."""
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{value} ({_names(names)})" for value, names in ordered)


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
