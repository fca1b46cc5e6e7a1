"""An engine without the network: what a job costs but for what the device would do.

Tapes are packed as for a GPU and then thrown away, and each result says `model: stand-in`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from worker.bench.clips import noise
from worker.engine.eager import FinishedTape, layout_of, outputs_of
from worker.engine.engine import Engine
from worker.engine.packing import pack, row_scales, tape_memory
from worker.model.model import Classifier, Model
from worker.model.synthetic import architecture, synthetic
from worker.tape import MAX_TAPE_SLOTS_GPU, Segment

NAME = "stand-in"


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
        self._config, self._classifier = model.config, model.classifier
        self._memory = torch.empty(tape_memory(MAX_TAPE_SLOTS_GPU))
        self._embedding = noise(model.config.embed_dim, np.random.default_rng(0))

    def slots_run(self, used_slots: int) -> int:
        return used_slots

    def even(self, slots: Sequence[int]) -> int:
        return len(slots)

    def start(self, segments: Sequence[Segment]) -> FinishedTape:
        layout = layout_of(segments, self._config)
        pack(segments, layout, self._memory)
        layout.roles(), layout.frame_edges(), row_scales(segments, layout)
        embeddings = np.tile(self._embedding, (len(segments), 1))
        kept = [
            np.zeros((segment.window.frames, self._config.embed_dim), np.float32)
            if segment.keeps
            else None
            for segment in segments
        ]
        return FinishedTape(outputs_of(segments, embeddings, kept, self._classifier), 0.0)


def stand_in(window_seconds: float) -> StandIn:
    """An engine that takes and gives what that of the large model does."""
    torch.set_num_threads(1)
    config, random = architecture("large"), np.random.default_rng(0)
    classifier = Classifier(random.normal(0, 1, (9, config.embed_dim)), np.zeros(9))
    tiny = synthetic("tiny", device=torch.device("cpu"), dtype=torch.float32)
    model = replace(tiny, name=NAME, revision="", config=config, classifier=classifier)
    return StandIn(model, window_seconds=window_seconds)
