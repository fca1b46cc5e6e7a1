"""Resampling where the tensors are, by torchaudio, as the reference does.

Its `transforms.Resample` is `functional.resample` with the filters of a rate made once, in float64.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import structlog
import torch
from torch import Tensor

from worker.audio.rates import filter_reach, num_resampled
from worker.clip import SAMPLE_RATE_HZ, Pcm, Samples, unit
from worker.model.device import DeviceError

_MOST_RATES = 16  # whose filters are kept: 1.2 MB each at most
# Of what goes there, or comes back, silence counted in: 32 MB as float32.
_MOST_BATCH_SAMPLES = 8 * 1024**2
_STEPS_AN_OCTAVE = 8  # in which the length of a batch goes up

# Of samples that are mapped or part of an object: nothing here writes to them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

log = structlog.get_logger(__name__)

Filters = Callable[[Tensor], Tensor]


class DeviceResampler:
    """Clips at any rate that `is_left_to_device` to 16 kHz, on one device. Thread-safe.

    A clip gives the samples that it gives alone: bit for bit on a CPU, where each is a call of its
    own; within 1e-6 where those of one rate go `together`, as on a GPU, on which an `Engine` has
    set that float32 is not rounded. They then have silence behind them, as torchaudio has it behind
    every clip, and below them: for each shape that a batch has, cuDNN keeps a plan.
    """

    def __init__(self, device: torch.device, *, together: bool | None = None) -> None:
        """Raises DeviceError where there is no torchaudio."""
        require_torchaudio()
        self._device = device
        self._together = device.type == "cuda" if together is None else together
        self._filters = lru_cache(_MOST_RATES)(_filters)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":  # of its own: it waits for no tape, and no tape for it
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types

    def __call__(self, sample_rate_hz: int, clips: Sequence[Pcm]) -> list[Samples]:
        """Of each int16 or float32 (num_samples,): float32 (ceil(num_samples * 16000 / rate),)."""
        made: dict[int, Samples] = {}
        alone = ([number] for number in range(len(clips)))
        for numbers in _batches(sample_rate_hz, clips) if self._together else alone:
            batch = [clips[number] for number in numbers]
            made.update(zip(numbers, self._resampled(sample_rate_hz, batch), strict=True))
        return [made[number] for number in range(len(clips))]

    def stream(self, sample_rate_hz: int) -> "LongClip":
        """One clip that comes in parts."""
        return LongClip(self, sample_rate_hz)

    def _resampled(self, rate_hz: int, clips: Sequence[Pcm]) -> list[Samples]:
        """Clips of one kind of samples, on the device; where that fails, on the CPU."""
        try:
            rows = self._rows(rate_hz, clips)
        except RuntimeError as error:
            if self._stream is None:
                raise
            # For want of memory, say. That a device is lost, the engine finds out by itself.
            log.warning("resample.failed", device=str(self._device), error=str(error))
            return [sound for clip in clips for sound in _on_cpu(self._filters, rate_hz, [clip])]
        return _cut(rows, rate_hz, clips)

    def _rows(self, rate_hz: int, clips: Sequence[Pcm]) -> Tensor:
        """Float32 (clips, samples), each to its end and beyond, in the CPU's memory."""
        if self._stream is None:
            filled = _filled(clips, padded=self._together)
            return _apply(self._filters(rate_hz, self._device), filled)
        filled = _filled(clips, padded=True, pinned=True)
        # Of this thread: on leaving the stream it would begin to use GPU 0.
        torch.cuda.set_device(self._device)
        with torch.cuda.stream(self._stream):
            arrived = filled.to(self._device, non_blocking=True)
            rows = _apply(self._filters(rate_hz, self._device), arrived)
            left = torch.empty(len(clips), rows.shape[1], pin_memory=True)
            left.copy_(rows[: len(clips)], non_blocking=True)
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has no types
            done.record(self._stream)
        done.synchronize()
        return left


class LongClip:
    """One clip that is resampled as it comes, without seams. Not thread-safe.

    Each part is resampled with as much before and behind it as the filters see, of which only what
    they see whole is given: within 1e-6 of what one call gives.
    """

    def __init__(self, resampler: DeviceResampler, sample_rate_hz: int) -> None:
        divisor = math.gcd(sample_rate_hz, SAMPLE_RATE_HZ)
        self._resampler = resampler
        self._rate_hz = sample_rate_hz
        # So many samples become so many, and the filters begin anew.
        self._step, self._phases = sample_rate_hz // divisor, SAMPLE_RATE_HZ // divisor
        self._context = math.ceil(filter_reach(sample_rate_hz, SAMPLE_RATE_HZ) / self._step)
        self._kept: Pcm | None = None  # what the next part is resampled with
        self._given = 0  # of what that becomes

    def push(self, samples: Pcm, *, last: bool) -> Samples:
        """Take more of it, and give what can be told by now: after the last, all."""
        if self._kept is not None:
            samples = np.concatenate([self._kept, samples])
        (made,) = self._resampler(self._rate_hz, [samples])
        if last:
            return made[self._given :]
        steps = max(0, len(samples) // self._step - self._context)  # seen whole
        ready = made[self._given : self._phases * steps]
        before = min(steps, self._context)
        self._kept = samples[self._step * (steps - before) :].copy()
        self._given = self._phases * before
        return ready


def resampler_for(setting: str, device: torch.device) -> DeviceResampler | None:
    """By `EMO_RESAMPLE`; None where decode processes are to resample. Raises DeviceError."""
    if setting == "ffmpeg" or (setting == "auto" and device.type != "cuda"):
        return None
    try:
        made = DeviceResampler(device)
    except DeviceError as error:
        if setting == "device":
            raise
        log.warning("resample.no_torchaudio", error=str(error), meaning="decode processes resample")
        return None
    log.info("resample.on_device", device=str(device))
    return made


def require_torchaudio() -> None:
    """Raise DeviceError where torchaudio cannot be imported."""
    try:
        import torchaudio.transforms  # noqa: F401, PLC0415 (an extra)
    except (ImportError, OSError, RuntimeError) as error:  # of its library, or another CUDA's
        raise DeviceError(
            f"EMO_RESAMPLE: torchaudio cannot be imported ({error}): beside a torch with CUDA, "
            "`pip install '.[gpu]'`; or set EMO_RESAMPLE=ffmpeg; docs/gpu.md#torchaudio says more"
        ) from error


def _filters(rate_hz: int, device: torch.device) -> Filters:
    """What resamples rows float32 (clips, samples) from that rate."""
    from torchaudio.transforms import Resample  # noqa: PLC0415 (an extra)

    made: Filters = Resample(rate_hz, SAMPLE_RATE_HZ).to(device)
    return made


def _apply(filters: Filters, filled: Tensor) -> Tensor:
    """Float32 (clips, samples) of int16 or float32 rows, each to its end and beyond."""
    if not filled.numel():
        return filled.float()
    with torch.inference_mode():
        is_int16 = filled.dtype == torch.int16
        return filters(filled * unit(np.empty(0, np.int16)) if is_int16 else filled)


def _on_cpu(filters: Callable[..., Filters], rate_hz: int, clips: Sequence[Pcm]) -> list[Samples]:
    return _cut(_apply(filters(rate_hz, torch.device("cpu")), _filled(clips)), rate_hz, clips)


def _batches(rate_hz: int, clips: Sequence[Pcm]) -> Iterator[list[int]]:
    """Numbers of clips of one kind of samples and of like lengths, so many as may go together."""
    batch: list[int] = []
    for number in sorted(range(len(clips)), key=lambda n: (clips[n].dtype.str, len(clips[n]))):
        clip = clips[number]
        rows, columns = _padded(len(batch) + 1, len(clip))
        num_samples = max(columns, num_resampled(columns, rate_hz, SAMPLE_RATE_HZ))
        too_large = rows * num_samples > _MOST_BATCH_SAMPLES
        if batch and (too_large or clip.dtype != clips[batch[0]].dtype):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(num_clips: int, num_samples: int) -> tuple[int, int]:
    """The rows and columns of a batch of clips up to so long: of few shapes, whatever comes."""
    step = max(1, (1 << num_samples.bit_length()) // (2 * _STEPS_AN_OCTAVE))
    return 1 << (num_clips - 1).bit_length(), math.ceil(num_samples / step) * step


def _filled(clips: Sequence[Pcm], *, padded: bool = False, pinned: bool = False) -> Tensor:
    """Clips of one kind as the first rows of (rows, columns), with silence around them.

    There are as many as it takes, or where they are `padded`, as `_padded` says.
    """
    rows, columns = len(clips), max(map(len, clips))
    if padded:
        rows, columns = _padded(rows, columns)
    elif rows == 1:
        return torch.from_numpy(clips[0]).unsqueeze(0)
    kind = torch.int16 if clips[0].dtype == np.int16 else torch.float32
    filled = torch.zeros(rows, columns, dtype=kind, pin_memory=pinned)
    for row, clip in zip(filled[: len(clips)], clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return filled


def _cut(rows: Tensor, rate_hz: int, clips: Sequence[Pcm]) -> list[Samples]:
    """The first rows, as long as their clips; copied, since one would keep all others in memory."""
    lengths = [num_resampled(len(clip), rate_hz, SAMPLE_RATE_HZ) for clip in clips]
    own = rows[: len(clips)].numpy()
    return [row[:length].copy() for row, length in zip(own, lengths, strict=True)]
