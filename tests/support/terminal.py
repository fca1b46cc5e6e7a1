"""A terminal of a given size, with what a program shows on it."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.support.polling import until

ROOT = Path(__file__).resolve().parents[2]
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """Runs `python -m …` as if somebody sat before it; killed when it is left."""

    def __init__(
        self, *arguments: str, width: int, height: int, variables: Mapping[str, str]
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("EMO_") and name not in ("COLUMNS", "LINES")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.said = ""

    def frame(self) -> list[str]:
        """The lines of what was drawn last, as people see them."""
        self._read()
        shown = [_ESCAPES.sub("", each) for each in self.said.split("\x1b[H")]
        drawn = [each for each in shown if each.strip()]
        return [line.rstrip() for line in drawn[-1].splitlines()] if drawn else []

    def wait_for(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """The first frame of which that is true."""
        found: list[str] = []

        def look() -> bool:
            found[:] = self.frame()
            return seen(found)

        until(look, 120)
        return found

    def press(self, keys: str) -> None:
        """Type that."""
        os.write(self._ours, keys.encode())

    def echoes(self) -> bool:
        """Whether what is typed is shown, as it was before the program."""
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait(30)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """What Ctrl-C does, or another signal; its exit status."""
        self._process.send_signal(number)
        status = self._process.wait(60)
        self._read()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # where it still runs
        self._process.wait()
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 1 << 16):
                self.said += data.decode(errors="replace")
        except OSError:  # nothing more now, or ever
            pass
