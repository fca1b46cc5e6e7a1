r"""The one way of text to a screen: what others wrote can neither steer a terminal nor break JSON.

Hidden are control characters (C0, C1), format characters (bidi, zero width), line and paragraph
separators, and surrogates: they are shown as escapes such as `\x1b` and `\u202e`.
"""

import json
import sys
import unicodedata
from typing import TextIO

from rich.text import Text

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_ONE_BYTE, _TWO_BYTES = 0xFF, 0xFFFF


def plain(text: str) -> str:
    """The text in one line, with escapes for what a terminal would obey or hide."""
    if text.isprintable():
        return text
    return "".join(_escape(char) if _is_hidden(char) else char for char in text)


def cell(text: str) -> Text:
    """The text for a table of rich's, which would take brackets in a string for its markup."""
    return Text(plain(text))


def say(*lines: str, file: TextIO | None = None) -> None:
    """Print lines, on stdout unless told otherwise; a newline in one is foreign, and escaped."""
    stream = file or sys.stdout
    encoding = stream.encoding or "utf-8"
    text = "".join(f"{plain(line)}\n" for line in lines)
    # What the terminal's encoding lacks is no reason to end with a traceback.
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def tell(*lines: str) -> None:
    """Print lines that are no result, on stderr."""
    say(*lines, file=sys.stderr)


def json_line(value: object) -> str:
    """One line of JSON, readable but for what `plain` would hide. Raises ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(_json_escape(char) if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN


def _escape(char: str) -> str:
    code = ord(char)
    if code <= _ONE_BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _TWO_BYTES else f"\\U{code:08x}"


def _json_escape(char: str) -> str:
    r"""As `\uXXXX`; two of them beyond the first plane."""
    return json.dumps(char)[1:-1] if ord(char) != 0x7F else "\\u007f"  # noqa: PLR2004 (DEL)
