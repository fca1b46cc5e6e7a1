"""`python -m worker.commands.stand_in`: a worker without the network, for `bench feed`.

A line on stdin is answered by one on stdout: what each kind of thread has taken so far, as JSON.
"""

import json
import os
import statistics
import sys
import threading
import time
from collections import defaultdict

from storage.settings import load
from worker.app import Worker
from worker.audio.confinement import hide_memory
from worker.bench.stand_in import stand_in
from worker.commands.program import drain_on_signals
from worker.pipeline.capacity import raise_limit
from worker.settings import WorkerSettings
from worker.telemetry import logs

_LOOK_SECONDS = 0.002
_IDLE_LOOKS = 500
_SCHEDULED_SECONDS = 100e-6  # more than this late, beyond what is usual: it waited for the lock


class _Watch:
    """How often Python's lock is held, and what each kind of thread takes.

    Python 3.11 does not count it. A thread that sleeps and then needs the lock looks how late it
    is: later than nearly always in an idle process, and it had to wait. Where other programs want
    the cores too, it waits for those as well: the share is the most that it can be.
    """

    def __init__(self) -> None:
        self._looks = self._held = 0
        self._usual_seconds = statistics.quantiles((_late() for _ in range(_IDLE_LOOKS)), n=20)[-1]
        threading.Thread(target=self._look, name="watch", daemon=True).start()
        threading.Thread(target=self._answer, name="watch", daemon=True).start()

    def _look(self) -> None:
        while True:
            self._held += _late() > self._usual_seconds + _SCHEDULED_SECONDS
            self._looks += 1

    def _answer(self) -> None:
        for _ in sys.stdin:
            taken: dict[str, float] = defaultdict(float)
            for thread in threading.enumerate():
                if thread.ident is not None:
                    clock = time.pthread_getcpuclockid(thread.ident)
                    taken[thread.name.partition("-")[0]] += time.clock_gettime(clock)
            said = {"threads": taken, "looks": self._looks, "held": self._held}
            print(json.dumps(said), flush=True)  # noqa: T201 (to the program that runs this)


def _late() -> float:
    began = time.perf_counter()
    time.sleep(_LOOK_SECONDS)  # what is measured
    return time.perf_counter() - began - _LOOK_SECONDS


def main() -> None:
    """Run a worker until SIGTERM."""
    hide_memory()
    settings = load(WorkerSettings, required=("redis_url", "store"))
    logs.configure(settings.log_level)
    raise_limit()
    _Watch()
    worker = Worker(settings, stand_in(settings.window_seconds))
    drain_on_signals(worker)
    worker.run()
    os._exit(0)


if __name__ == "__main__":
    main()
