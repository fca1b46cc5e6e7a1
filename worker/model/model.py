"""A model that is ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worker.model.config import ModelConfig
from worker.model.network import Network

_ROWS = 64  # that are float64 at a time, and stay in the cache


@dataclass(frozen=True, slots=True)
class Classifier:
    """The output layer, on the CPU and in float64 whatever the network runs in.

    `weight` is (labels, dim) and `bias` (labels,): the rows of masked tokens are left out, which
    is what masking them before the softmax does.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float64 (…, labels) of embeddings (…, dim): linear, so means may be taken before it."""
        rows = embeddings.reshape(-1, embeddings.shape[-1])
        logits: NDArray[np.float64] = np.empty((len(rows), len(self.bias)))
        for start in range(0, len(rows), _ROWS):
            wide = rows[start : start + _ROWS, None].astype(np.float64)  # (rows, 1, dim)
            # Not `@`, for which the library has threads of its own, that wait for each other for
            # longer than this takes.
            np.vecdot(wide, self.weight, out=logits[start : start + _ROWS])
        return (logits + self.bias).reshape(*embeddings.shape[:-1], len(self.bias))

    def scores_of(
        self, logits: NDArray[np.float64], labels: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        """Probabilities float32 of logits (…, labels): of all labels, or of those alone."""
        counted = logits[..., list(labels)] if labels else logits
        odds: NDArray[np.float64] = np.exp(counted - counted.max(axis=-1, keepdims=True))
        probabilities: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
        return probabilities.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights on its device. Owned by the infer thread, which may share it out.

    `untrained` marks random weights, whose labels mean nothing.
    """

    name: str
    revision: str
    untrained: bool
    config: ModelConfig
    network: Network
    classifier: Classifier
    device: torch.device
    dtype: torch.dtype

    @property
    def described(self) -> dict[str, str]:
        """What results and workers say of it: see docs/wire.md."""
        return {
            "model": self.name,
            "model_revision": self.revision,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }
