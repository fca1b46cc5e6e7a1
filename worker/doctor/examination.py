"""Which checks are made of which settings."""

from collections.abc import Iterable, Iterator, Sequence

from storage.redis.url import parse_redis_url
from storage.settings import unknown_settings
from worker.doctor.device import Torch
from worker.doctor.examine import examine
from worker.doctor.findings import Category, Check, Finding, Line, fail, ok, warn
from worker.doctor.machine import machine, python
from worker.doctor.model import model
from worker.doctor.server import Server
from worker.doctor.sound import sound
from worker.doctor.store import store
from worker.doctor.workers import workers
from worker.settings import WorkerSettings
from worker.stores import in_plain_text

_SEE = "settings.md#settings"


def examination(
    settings: WorkerSettings, *, pre: bool = False, rate: float | None = None
) -> Iterator[Finding]:
    """All findings; with `pre` only of what is there before anything is started.

    `rate`: jobs a second that are expected, where somebody knows.
    """
    categories = [
        Category("settings", (Check("settings", lambda: _settings(settings)),)),
        machine(settings),
        Torch(settings).category(),
        sound(settings),
    ]
    if not pre:
        categories += [
            Server(settings, rate=rate).category(),
            store(settings),
            model(settings),
            workers(settings),
        ]
    return examine(categories, secrets=list(secrets_of(settings)))


def without_settings(problems: Sequence[str]) -> Iterator[Finding]:
    """What can be said where the settings are wrong."""

    def wrong() -> Iterable[Line]:
        for problem in problems:
            yield fail(
                problem,
                "correct it: no program starts with it, and nothing else was looked at",
                _SEE,
            )
        yield from _misspelt()

    return examine([Category("settings", (Check("settings", wrong),)), python()])


def secrets_of(settings: WorkerSettings) -> Iterator[str]:
    """What must not be shown, wherever it comes from."""
    yield settings.s3_secret_key.get_secret_value()
    if settings.redis_url:
        url = parse_redis_url(settings.redis_url)
        for options in (url.options, url.sentinel_options):
            for name in ("password", "ssl_password"):
                yield str(options.get(name) or "")


def _misspelt() -> Iterator[Line]:
    for name in unknown_settings(WorkerSettings):
        yield warn(f"{name}: there is no such setting", "correct its name, or unset it", _SEE)


def _settings(settings: WorkerSettings) -> Iterable[Line]:
    fine = True
    for line in _misspelt():
        fine = False
        yield line
    for where in in_plain_text(settings) if settings.redis_url else ():
        fine = False
        yield warn(
            f"{where}: its password or key goes over the network as it is",
            "use rediss:// and s3s://, or a network that nobody else is on",
            "security.md#who-may-do-what-in-redis",
        )
    if fine:
        yield ok("all are known, and no secret leaves this machine without TLS")
