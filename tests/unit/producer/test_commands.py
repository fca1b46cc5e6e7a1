"""What the producers' commands read from users, and tell them."""

import re
from typing import Any

import pytest
import typer

from producer.cli import app
from producer.program import age_seconds
from storage.wire.messages import Want


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("12h", 43_200), ("7d", 604_800)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """Seconds where there is none."""
    assert age_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "1w", "1h30m", "1e9", "²d", " 1h"])
def test_what_is_no_age_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(typer.BadParameter, match="write 90s, 30m, 12h or 7d"):
        age_seconds(text)


@pytest.mark.parametrize("path", [["submit"], ["bulk", "submit"]], ids=" ".join)
def test_all_that_may_be_wanted_is_named(path: list[str]) -> None:
    """By the help of each command that takes it."""
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    (told,) = [option.help for option in command.params if option.name == "want"]
    assert set(re.findall(r"\w+", told)) >= set(Want)
