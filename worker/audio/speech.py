"""Voice activity detection: Silero's network over a recording, a block of it at a time."""

import functools
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidJob
from worker.audio.turns import CHUNK_SAMPLES, SpeechOptions, Turn, find_turns
from worker.clip import Samples

_WEIGHTS = "silero_vad/data/silero_vad_16k_sequence.onnx"
_CONTEXT_SAMPLES = 64  # of the chunk before, which the network sees too
_STATE_SHAPE = (1, 1, 128)
_BLOCK_CHUNKS = 512  # 16 s: 3 MB of memory, and the interpreter's lock is wanted once


class SpeechDetector:
    """Find where somebody speaks.

    Thread-safe. It computes on the thread that calls it and no other, and without the
    interpreter's lock: about 3 ms of CPU for a second of audio.
    """

    def __init__(self, options: SpeechOptions) -> None:
        """Nothing is loaded before the first call."""
        self._options = options

    def __call__(self, samples: Samples, forget: Callable[[], object] | None = None) -> list[Turn]:
        """Turns in order, without overlap; none in silence.

        `samples` are float32 (num_samples,), 16 kHz mono, nominally in [-1, 1]; any view or mapped
        file will do (for `forget` see Waveform), and any length: it takes 3 MB of memory an hour.
        Values beyond [-1, 1] are clipped, and what is no number is silence. Raises InvalidJob where
        the packages for it are not installed.
        """
        probability, power = _measure(samples, forget)
        return find_turns(probability, power, len(samples), self._options)


def _measure(
    samples: Samples, forget: Callable[[], object] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability of speech and mean square of each chunk: float32 (num_chunks,) both."""
    network = _load_network()
    hidden = cell = np.zeros(_STATE_SHAPE, np.float32)
    probabilities, powers = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for block in _blocks(samples):
        seen = np.lib.stride_tricks.sliding_window_view(block, _CONTEXT_SAMPLES + CHUNK_SAMPLES)
        chunks = np.ascontiguousarray(seen[::CHUNK_SAMPLES])  # (num_chunks, 576)
        probability, hidden, cell = network.run(
            ["speech_probs", "hn", "cn"], {"input": chunks, "h": hidden, "c": cell}
        )
        probabilities.append(probability)
        if forget is not None:
            forget()
        powers.append(np.square(chunks[:, _CONTEXT_SAMPLES:]).mean(axis=1))
    return np.concatenate(probabilities), np.concatenate(powers)


def _blocks(samples: Samples) -> Iterator[Samples]:
    """The samples in whole chunks, after the 64 samples before them: float32 (64 + n × 512,).

    The end is filled up with zeros. Each block is overwritten by the next.
    """
    block = np.zeros(_CONTEXT_SAMPLES + _BLOCK_CHUNKS * CHUNK_SAMPLES, np.float32)
    for start in range(0, len(samples), _BLOCK_CHUNKS * CHUNK_SAMPLES):
        block[:_CONTEXT_SAMPLES] = block[-_CONTEXT_SAMPLES:]
        part = samples[start : start + _BLOCK_CHUNKS * CHUNK_SAMPLES]
        num_chunks = -(-len(part) // CHUNK_SAMPLES)
        block = block[: _CONTEXT_SAMPLES + num_chunks * CHUNK_SAMPLES]
        new = block[_CONTEXT_SAMPLES:]
        np.clip(part, -1, 1, out=new[: len(part)])
        new[len(part) :] = 0
        new[np.isnan(new)] = 0
        yield block


@functools.cache
def _load_network() -> Any:
    """The session that all calls share; what a call remembers goes in and out of it.

    `silero_vad` is never imported: it sets torch to one thread for the whole process, and its own
    loop copies a view. Its weights are read where they are installed. Raises InvalidJob.
    """
    try:
        import onnxruntime  # noqa: PLC0415 (of an extra)

        weights = Path(str(distribution("silero-vad").locate_file(_WEIGHTS)))
    except ImportError as error:
        raise _not_installed(str(error)) from error
    if not weights.is_file():
        raise _not_installed(f"silero-vad has no {weights.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


def _not_installed(reason: str) -> InvalidJob:
    return InvalidJob(
        f"segments=speech: this worker cannot tell where speech is ({reason}): run "
        "pip install -e '.[speech]' in its directory, or leave the field out"
    )
