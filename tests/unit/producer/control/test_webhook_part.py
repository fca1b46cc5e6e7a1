"""That webhooks are sent as the settings say."""

from threading import Event
from typing import Any

import pytest

from producer.control.context import Context
from producer.control.settings import ControlSettings
from producer.control.webhooks import part
from producer.control.webhooks.part import webhooks
from storage.settings import load
from tests.support.webhook_receiver import SECRET


class Nothing:
    """Whatever is called of it, nothing happens."""

    def __getattr__(self, name: str) -> "Nothing":
        return self

    def __call__(self, *args: object, **options: object) -> "Nothing":
        """Nothing."""
        return self


def test_each_setting_of_the_sender_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is what it is by default, nor what another one is."""
    told: dict[str, Any] = {}

    def noted(*args: object, **options: object) -> Nothing:
        told.update(options)
        return Nothing()

    for name in ("Destinations", "Sender", "Dispatcher"):
        monkeypatch.setattr(part, name, noted)
    wanted = {
        "timeout_seconds": ("EMO_WEBHOOK_TIMEOUT_SECONDS", 7.5),
        "concurrency": ("EMO_WEBHOOK_CONCURRENCY", 31),
        "host_concurrency": ("EMO_WEBHOOK_HOST_CONCURRENCY", 5),
        "allow_http": ("EMO_WEBHOOK_HTTP", True),
    }
    for variable, value in wanted.values():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.setenv("EMO_WEBHOOK_SECRET", SECRET)
    nothing: Any = Nothing()
    (send,) = webhooks(Context(load(ControlSettings), nothing, nothing)).threads
    send(Event())
    assert {name: told[name] for name in wanted} == {
        name: value for name, (_, value) in wanted.items()
    }
