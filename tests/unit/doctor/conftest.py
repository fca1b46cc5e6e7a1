"""A machine with cards, by a stand-in for NVIDIA's library."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import nvml

Card = Callable[..., None]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A machine with a card; called, it reads as it is told."""
    path = tmp_path / "readings"
    nvml.load(monkeypatch, nvml.say(path, **nvml.BUSY, cuda=13000))

    def reads(**readings: float | None) -> None:
        told = {name: value for name, value in (nvml.BUSY | readings).items() if value is not None}
        nvml.say(path, **told)

    return reads
