"""What a section has found so far."""

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_SHOWN_CHARACTERS = 1_500


class Found:
    """Findings by name, on disk after every one."""

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        self._path = path
        self._started = time.monotonic()
        self._found: dict[str, Any] = {"dry": True} if dry else {}

    @classmethod
    def read(cls, path: Path) -> Self:
        """What a process has left; nothing where there is no file."""
        found = cls(path)
        if path.exists():
            found._found = json.loads(path.read_text())
        return found

    @property
    def well(self) -> bool:
        """Whether it came to its end without an error."""
        return bool(self._found.get("ended")) and not self.failures

    @property
    def failures(self) -> list[str]:
        """The steps that failed."""
        return [name for name, value in self._found.items() if _failed(value)]

    def keep(self, **findings: object) -> None:
        """Add findings, and write all down."""
        self._found |= findings
        self._found["seconds"] = round(time.monotonic() - self._started, 1)
        self._path.write_text(json.dumps(self._found, indent=1, default=str) + "\n")

    def step(self, name: str, call: Callable[[], object]) -> Any:
        """Keep what the call gives, or why it failed: the next step may still say something."""
        started = time.monotonic()
        try:
            value = call()
        except Exception as error:
            text = traceback.format_exc()[-_SHOWN_CHARACTERS:]
            value = {"error": f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS], "trace": text}
            print(f"!! {name}: {value['error'][:300]}", flush=True)
        self.keep(**{name: value})
        print(f"-- {name}: {time.monotonic() - started:.1f} s", flush=True)
        return None if _failed(value) else value


def _failed(value: object) -> bool:
    return isinstance(value, dict) and "error" in value and "trace" in value
