"""A model that is ready to run."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worker.model.config import ModelConfig
from worker.model.network import Network


@dataclass(frozen=True, slots=True)
class Classifier:
    """The output layer, on the CPU and in float64 whatever the network runs in.

    `weight` is (labels, dim) and `bias` (labels,): the rows of masked tokens are left out, which
    is what masking them before the softmax does.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def scores(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities float32 (labels,) of a pooled embedding (dim,)."""
        logits = self.weight @ embedding.astype(np.float64) + self.bias  # (labels,)
        odds: NDArray[np.float64] = np.exp(logits - logits.max())
        probabilities: NDArray[np.float64] = odds / odds.sum()
        return probabilities.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its weights on its device. Owned by the infer thread, which may share it out.

    `untrained` marks random weights, whose labels mean nothing; `may_overflow` weights that are not
    known to keep all values within the range of `dtype`.
    """

    name: str
    revision: str
    untrained: bool
    config: ModelConfig
    network: Network
    classifier: Classifier
    device: torch.device
    dtype: torch.dtype
    may_overflow: bool = False
