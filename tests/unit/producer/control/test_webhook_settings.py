"""What control is told of webhooks: wrong values are said, and no secret is."""

import pytest

from producer.control.settings import ControlSettings
from storage.settings import InvalidSettings, load
from tests.support.webhook_receiver import SECRET


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EMO_WEBHOOK_SECRET", "hush-hush", "whsec_$(openssl rand -base64 32)"),
        ("EMO_WEBHOOK_HOSTS", "https://hooks.example.org/", "is no host"),
        ("EMO_WEBHOOK_HTTP", "perhaps", "boolean"),
        ("EMO_WEBHOOK_TIMEOUT_SECONDS", "60", "less than or equal to 25"),
        ("EMO_WEBHOOK_CONCURRENCY", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """With its name; of a secret, nothing more."""
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as refused:
        load(ControlSettings)
    (problem,) = refused.value.problems
    assert problem.startswith(name)
    assert said in problem
    assert "hush" not in problem


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever prints the settings."""
    monkeypatch.setenv("EMO_WEBHOOK_SECRET", SECRET)
    settings = load(ControlSettings)
    assert settings.webhook_secret.get_secret_value() == SECRET
    assert SECRET not in repr(settings)
