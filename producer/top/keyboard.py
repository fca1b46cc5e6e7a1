"""The keys of the terminal that stdin is, one at a time and without echo."""

import os
import re
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, Self

_MOST_BYTES = 1024
_KEY = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_NAMES = {
    **{"\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down", "\x1b": "escape"},
    **{"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"},
}
_BEGUN = re.compile(rb"\x1b(?:[\[O][0-9;]*)?\Z")
_PATIENCE_SECONDS = 0.05  # for the rest of a key's bytes, which a network may bring apart
_SPECIAL, _NO_KEY = 6, b"\0"  # where termios has the keys that are signals
_ENDS = (signal.SIGTERM, signal.SIGHUP)


class Keyboard:
    """Reads keys while it is entered; the terminal is put back whatever ends the program.

    Ctrl-C stays an interrupt. Ctrl-Z is a key like others: a shell that goes on with a program
    that was stopped gives it back a terminal which echoes, and holds keys back until Enter.
    """

    def __init__(
        self, fd: int | None = None, *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Of that terminal; of stdin where none is named."""
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._patience_seconds = patience_seconds
        self._before: list[Any] = []
        self._gone = False

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        self._take()
        for number in _ENDS:
            signal.signal(number, _end)
        signal.signal(signal.SIGCONT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (*_ENDS, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> Sequence[str]:
        """Those that are pressed within that time, as soon as there are any.

        A character, or `up`, `down`, `enter`, `escape`, `backspace`.
        """
        if self._gone:
            time.sleep(seconds)  # for people to look at: nothing is waited for
            return []
        data = self._read(seconds)
        while _BEGUN.search(data) and (more := self._read(self._patience_seconds)):
            data += more
        return keys_in(data)

    def _take(self, *_: object) -> None:
        """Have keys one at a time; again after a stop, where a shell has put the terminal back."""
        with suppress(termios.error):  # it was closed
            tty.setcbreak(self._fd)
            mode = termios.tcgetattr(self._fd)
            mode[_SPECIAL][termios.VSUSP] = _NO_KEY
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def _read(self, seconds: float) -> bytes:
        """What comes within that time; nothing where nothing does, or ever will."""
        readable, _, _ = select.select([self._fd], [], [], seconds)
        if not readable:
            return b""
        data = b""
        with suppress(OSError):  # the terminal was closed
            data = os.read(self._fd, _MOST_BYTES)
        self._gone = not data
        return data


def keys_in(data: bytes) -> list[str]:
    """What was pressed, of the bytes that a terminal sends for it."""
    found = _KEY.findall(data.decode("utf-8", "ignore"))
    return [_NAMES.get(each, each) for each in found if each in _NAMES or len(each) == 1]


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
