"""Foreign text on its way to a screen."""

import io
import json
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from storage.terminal.text import cell, json_line, plain, say

ANY_TEXT = st.text(st.characters(), max_size=40)  # surrogates and controls too
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
) | st.dictionaries(ANY_TEXT, ANY_TEXT)
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def hidden(text: str) -> set[str]:
    """The characters in it that a terminal would obey or hide."""
    return {char for char in text if unicodedata.category(char) in HIDDEN}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 中文 👋 [bold]", "é 中文 👋 [bold]"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\n\tb\x7f", "a\\x0a\\x09b\\x7f"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u200bb\u2028c\ufeff", "a\\u200bb\\u2028c\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    """Everything else stays as it is."""
    assert plain(text) == shown


@given(ANY_TEXT)
def test_no_text_hides_anything(text: str) -> None:
    """In lines and in tables, whose markup it is not."""
    assert not hidden(plain(text))
    console = Console(width=1000, file=io.StringIO())
    with console.capture() as capture:
        console.print(cell(text), highlight=False)
    assert capture.get().rstrip("\n").split() == plain(text).split()


@given(ANY_JSON)
def test_json_is_readable_by_programs_and_harmless_to_people(value: Any) -> None:
    """The same value comes back, and no raw control character is in it."""
    line = json_line(value)
    assert not hidden(line)
    assert json.loads(line) == value


def test_json_keeps_what_people_can_read() -> None:
    """Letters of any language."""
    assert json_line({"key": "über/中.wav", "x": "\x9b\u202e"}) == (
        '{"key": "über/中.wav", "x": "\\u009b\\u202e"}'
    )


def test_a_number_that_json_has_not_is_refused() -> None:
    """Programs could not read it."""
    with pytest.raises(ValueError, match="JSON"):
        json_line(float("nan"))


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", "ü\\x1b 中\n"), ("latin-1", "ü\\x1b \\u4e2d\n")]
)
def test_a_terminal_of_another_encoding_gets_escapes(
    encoding: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the characters that it has not."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    say("ü\x1b 中")
    assert raw.getvalue().decode(encoding) == said
