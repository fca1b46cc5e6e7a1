"""From decoded samples behind a descriptor to a `Recording`, without reading them."""

import mmap
import weakref
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from storage.errors import AudioTooShort
from storage.wire.channels import EACH, MIX
from storage.wire.parts import Parts
from worker.audio.lanes import require_channel
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.rates import INT16_BYTES, Form, num_resampled
from worker.clip import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm, Recording, Renditions, Waveform
from worker.warning import AudioWarning

_MOST_BYTES_KEPT = 16 * 1024**2
MODEL_FORM = Form(SAMPLE_RATE_HZ, SAMPLE_BYTES)


def map_lanes(
    fd: int,
    num_samples: int,
    lanes: int,
    warnings: tuple[AudioWarning, ...],
    *,
    renditions: Renditions | None = None,
    released: Callable[[], None] | None = None,
    form: Form = MODEL_FORM,
) -> tuple[Waveform, ...]:
    """Map the samples (num_samples / lanes, lanes) in the file `fd`, which stays the caller's.

    Reading past the end of a map would kill the worker: nobody else may be able to cut the file
    short, so it is sealed memory or a file that only the worker has open. The map lives as long as
    samples of it do, or the preview that may lie behind them, and then `released` is called. Raises
    AudioTooShort.
    """
    require_one_frame(num_samples // lanes, form.sample_rate_hz)
    preview_bytes = renditions.preview_bytes if renditions else 0
    samples_bytes = num_samples * form.sample_bytes
    pcm = mmap.mmap(fd, samples_bytes + preview_bytes, access=mmap.ACCESS_READ)
    if renditions and preview_bytes:
        renditions.preview = memoryview(pcm)[samples_bytes:]
    if released is not None:
        weakref.finalize(pcm, released).atexit = False
    # Pages of a file that were read count as ours until somebody else needs the memory.
    forget = partial(pcm.madvise, mmap.MADV_DONTNEED) if len(pcm) > _MOST_BYTES_KEPT else None
    samples: Pcm = np.frombuffer(pcm, kind_of(form), num_samples)  # (num_samples,)
    if lanes == 1:
        return (Waveform(samples, warnings, forget, form.sample_rate_hz),)
    side_by_side = samples.reshape(-1, lanes)
    return tuple(Waveform(side_by_side[:, lane], warnings, forget) for lane in range(lanes))


def recording_of(
    lanes: Sequence[Waveform], parts: Parts, renditions: Renditions | None = None
) -> Recording:
    """What was asked for, of the lanes that `parts.channels` gives. Raises InvalidJob."""
    if parts.channels != EACH:
        return Recording(lanes[0], parts=parts, renditions=renditions)
    channels = tuple(lanes[1:] or lanes)
    if parts.channel in (MIX, EACH):
        return Recording(lanes[0], channels, parts, renditions=renditions)
    require_channel(parts.channel, len(channels))
    return Recording(channels[int(parts.channel)], channels, parts, renditions=renditions)


def kind_of(form: Form) -> type[np.int16 | np.float32]:
    """What the samples are to numpy."""
    return np.int16 if form.sample_bytes == INT16_BYTES else np.float32


def require_one_frame(num_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Raise AudioTooShort unless the network can make at least one frame of it."""
    num_samples = num_resampled(num_samples, sample_rate_hz, SAMPLE_RATE_HZ)
    if num_samples < FRAME_SAMPLES:
        raise AudioTooShort(
            f"the audio has {num_samples} samples at {SAMPLE_RATE_HZ} Hz and one frame needs "
            f"{FRAME_SAMPLES}: send at least 25 ms"
        )
