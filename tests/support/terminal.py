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

from tests.support.polling import until

ROOT = Path(__file__).resolve().parents[2]
_ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """Runs `python -m …` as if somebody sat before it; end it with `interrupt`."""

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

    def interrupt(self) -> int:
        """What Ctrl-C does; its exit status."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(60)
        self._read()
        os.close(self._ours)
        return status

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 1 << 16):
                self.said += data.decode(errors="replace")
        except OSError:  # nothing more now, or ever
            pass
