"""A real console, and a real browser in front of it."""

import io
import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.polling import until

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP desk.test 127.0.0.1",
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)

# Run by Python before anything else: where this process connects, and which names it resolves.
_WITNESS = """
import os, sys
file = os.open({file!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        os.write(file, (str(args[1][0]) + "\\n").encode())
    elif event == "socket.getaddrinfo":
        os.write(file, (str(args[0]) + "\\n").encode())
sys.addaudithook(note)
"""


class ConsoleProcess:
    """`python -m producer console`, in a process of its own."""

    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self._log = log
        self._asked = log.with_suffix(".asked")
        witness = log.with_suffix(".witness")
        witness.mkdir()
        code = _WITNESS.format(file=str(self._asked))
        (witness / "sitecustomize.py").write_text(code)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "producer", "console"],
                cwd=log.parent,  # away from a developer's .env
                env={**environment, "PYTHONPATH": f"{witness}:{ROOT}", **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves, waiting for it."""

        def told() -> str:
            said = self._log.read_text(errors="replace")
            assert self._process.poll() is None, said
            found = re.search(r"console: (http://\S+)/  ", said)
            return found[1] if found else ""

        return until(told, 120)

    def asked(self) -> set[str]:
        """The hosts that it has connected to, or resolved, up to now."""
        return set(self._asked.read_text().split())

    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """As a supervisor would; its exit status."""
        self._process.terminate()
        return self._process.wait(60)

    def kill(self) -> None:
        """As an accident would."""
        self._process.kill()
        self._process.wait()


@contextmanager
def console_process(
    directory: Path, redis_url: str, store: Path | str, name: str = "console", **settings: str
) -> Iterator[ConsoleProcess]:
    """A console that serves; killed at the end."""
    console = ConsoleProcess(
        directory / f"{name}.log",
        {
            "EMO_REDIS_URL": redis_url,
            "EMO_STORE": store.as_uri() if isinstance(store, Path) else store,
            "EMO_CONSOLE_ADDRESS": "127.0.0.1:0",
            "EMO_CONSOLE_WRITE": "true",
            **settings,
        },
    )
    try:
        assert console.url
        yield console
    finally:
        console.kill()


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium, with a microphone that beeps; without it the test is skipped."""
    if not CHROMIUM.exists():
        message = f"NO {CHROMIUM} on this machine: the console's pages were not tested"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 (where there is a browser)

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_ARGUMENTS))
        yield started
        started.close()


def large_wav(seconds: int) -> bytes:
    """A tone at 384 kHz, in stereo with 24 bits: many bytes of little audio."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(384_000)
        file.writeframes(b"\x00\x00\x10\x00\x00\xf0" * (384_000 * seconds))
    return whole.getvalue()
