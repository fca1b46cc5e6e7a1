"""The stress command with a quick load, what it saves, and how jobs end."""

import time
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from producer.stress.report import Kept, read_run
from storage.queue.entries import Begun, Ending
from tests.support.paced_worker import done

Stress = Callable[..., Result]
OPEN = ("--rate", "60", "--duration", "0.7s", "--warm-up", "0.2s", "--different", "3")
NOT_FAILED = {0, 5}  # on a busy machine jobs may be sent late, and it says so


def kept(place: Path = Path("run.json")) -> Kept:
    """What it has saved."""
    return read_run(place)


def drop_one(begun: Begun, dropped: list[str]) -> Ending | None:
    """All but one."""
    if "-1-" not in begun.job_id or dropped:
        return done(begun)
    dropped.append(begun.job_id)
    return None


def slowly(begun: Begun, seconds: float) -> Ending:
    """As a service that takes so long for each."""
    time.sleep(seconds)
    return done(begun)
