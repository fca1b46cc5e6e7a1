"""A worker without the network: all of the service but what the device would do.

`python -m worker.commands.stand_in` is run by `bench feed`. Tapes are packed as for a GPU and then
thrown away, and each result says `model: stand-in`. A line on stdin is answered by one on stdout:
what each kind of thread has taken so far, as JSON.
"""

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from storage.settings import load
from worker.app import Worker, drain_on_signals
from worker.audio.confinement import hide_memory
from worker.bench.clips import noise
from worker.engine.eager import FinishedTape, SegmentOutput, layout_of, outputs_of
from worker.engine.engine import Engine
from worker.engine.memory import MAX_TAPE_SLOTS_GPU
from worker.model.model import Classifier, Model
from worker.model.synthetic import architecture, synthetic
from worker.pipeline.capacity import raise_limit
from worker.settings import WorkerSettings
from worker.tape import Segment
from worker.telemetry import logs

NAME = "stand-in"
_LOOK_SECONDS = 0.002
_IDLE_LOOKS = 500
_SCHEDULED_SECONDS = 100e-6  # more than this late, beyond what is usual: it waited for the lock


class StandIn(Engine):
    """An engine whose device takes no time. Not thread-safe, as any."""

    def __init__(self, model: Model, *, window_seconds: float) -> None:
        super().__init__(model, tape_slots=MAX_TAPE_SLOTS_GPU, window_seconds=window_seconds)
        self._tapes = _NoTapes(model)

    def warm_up(self) -> float:
        """Nothing is to be prepared."""
        return 0.0


class _NoTapes:
    """Packs tapes, and gives each segment the same embedding."""

    def __init__(self, model: Model) -> None:
        self._config = model.config
        self._tape = np.empty(0, np.float32)
        self._embedding = noise(model.config.embed_dim, np.random.default_rng(0))

    def slots_run(self, used_slots: int) -> int:
        return used_slots

    def start(self, segments: Sequence[Segment]) -> FinishedTape:
        layout = layout_of(segments, self._config)
        if len(self._tape) < layout.num_samples:
            self._tape = np.empty(layout.num_samples, np.float32)
        layout.write(segments, self._tape[: layout.num_samples])
        embeddings = np.tile(self._embedding, (len(segments), 1))
        kept = [
            np.zeros((segment.window.frames, self._config.embed_dim), np.float32)
            if segment.keeps
            else None
            for segment in segments
        ]
        outputs: list[SegmentOutput] = outputs_of(segments, embeddings, kept)
        return FinishedTape(outputs, 0.0)


def stand_in(window_seconds: float) -> StandIn:
    """An engine that takes and gives what that of the large model does."""
    config, random = architecture("large"), np.random.default_rng(0)
    classifier = Classifier(random.normal(0, 1, (9, config.embed_dim)), np.zeros(9))
    tiny = synthetic("tiny", device=torch.device("cpu"), dtype=torch.float32)
    model = replace(tiny, name=NAME, revision="", config=config, classifier=classifier)
    return StandIn(model, window_seconds=window_seconds)


class _Watch:
    """How often Python's lock is held, and what each kind of thread takes.

    Python 3.11 does not count it. A thread that sleeps and then needs the lock looks how late it
    is: later than nearly always in an idle process, and it had to wait. Where other programs want
    the cores too, it waits for those as well: the share is the most that it can be.
    """

    def __init__(self) -> None:
        self._looks = self._held = 0
        self._usual_seconds = float(np.quantile([_late() for _ in range(_IDLE_LOOKS)], 0.95))
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
    watch = _Watch()
    torch.set_num_threads(1)
    worker = Worker(settings, stand_in(settings.window_seconds))
    drain_on_signals(worker)
    worker.run()
    del watch
    os._exit(0)


if __name__ == "__main__":
    main()
