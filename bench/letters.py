"""Very many dead letters: `python -m bench.letters [--letters 200000]`.

How long `dead summary` takes over all of them, and `dead replay --reason` of a tenth.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys

_AT_ONCE = 5000
_ONE_IN = 10  # died of the reason that is replayed


def fill(client: Any, letters: int) -> None:
    """As workers leave them, with a key of usual length."""
    for first in range(0, letters, _AT_ONCE):
        with client.pipeline(transaction=False) as batch:
            for number in range(first, min(first + _AT_ONCE, letters)):
                reason = "stage_timeout" if number % _ONE_IN == 0 else "internal"
                fields = {
                    **{"key": f"calls/2026/11/27/{number:09d}.wav", "_job": f"call-{number}"},
                    **{"_lane": "bulk", "_run": "1", "_reason": reason, "_error": "x" * 100},
                }
                batch.xadd(Keys("emo").dead, fields)
            batch.execute()


def took(url: str, *words: str) -> tuple[float, str]:
    """Seconds, and what it said last."""
    environment: Mapping[str, str] = {**os.environ, "EMO_REDIS_URL": url}
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "producer", "dead", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, (ran.stderr or ran.stdout).strip().splitlines()[-1]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=200_000)
    letters = parser.parse_args().letters
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        with connect(server.url, name="bench") as client:
            fill(client, letters)
        for words in (
            ("summary",),
            ("list", "--limit", "5"),
            ("replay", "--reason", "stage_timeout"),
            ("summary",),
        ):
            seconds, said = took(server.url, *words)
            print(f"dead {' '.join(words)}: {seconds:.1f} s of {letters:,} letters: {said}")


if __name__ == "__main__":
    main()
