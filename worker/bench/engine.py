"""The engine alone: how fast on clips at hand, how fast it could be, and how it grows."""

import statistics
from collections import deque
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import torch

from worker.bench.choices import FIVE_SECONDS, Lengths
from worker.bench.clips import draw, noise
from worker.bench.cost import products, slot_bytes, slot_flop, weight_bytes
from worker.bench.rates import Device
from worker.bench.report import EngineReport, Latency, Limits, Rung
from worker.bench.timing import LEAST_RUNS, median_seconds, repeat
from worker.clip import SAMPLE_RATE_HZ, Samples, frame_samples
from worker.engine.engine import Engine, Started
from worker.engine.ladder import rungs
from worker.engine.prediction import Prediction
from worker.stages.normalize import Normalize
from worker.tape import Segment, num_fitting

_MOST_TAPES = 32  # of one run: more say nothing new
_PRODUCT_SLOTS = 2_048
_DRAWN_CLIPS = 64
# Each of the many figures that make a table need no longer than this.
_RUNG_SECONDS, _RATE_SECONDS = 1.0, 0.3


def measure_engine(engine: Engine, *, lengths: Lengths, seconds: float) -> EngineReport:
    """Measure everything; each figure takes `seconds`, or three runs where that is longer.

    Raises the JobError of a clip that fails.
    """
    (warm_up_seconds,) = repeat(engine.warm_up, seconds=0, least_runs=1)
    drawn = segments_of(draw(lengths, _DRAWN_CLIPS))
    full = fill(engine, drawn)
    device_seconds = engine.device_seconds
    tape_seconds = repeat(lambda: predict(engine, full), seconds=seconds)

    # Several tapes at once, where they are short: what is done beside the device hides behind it.
    work, runs = full, tape_seconds
    tapes = min(round(seconds / LEAST_RUNS / statistics.median(runs)), _MOST_TAPES)
    if tapes > 1:
        work, device_seconds = full * tapes, engine.device_seconds
        runs = repeat(lambda: predict(engine, work), seconds=seconds)
    device_busy = (engine.device_seconds - device_seconds) / sum(runs)
    work_seconds = statistics.median(runs)
    audio_seconds = sum(len(segment.clip.samples) for segment in work) / SAMPLE_RATE_HZ
    frames = sum(segment.window.frames for segment in work)
    rtfx = audio_seconds / work_seconds

    five = segments_of(draw(Lengths.FIVE, 1))
    return EngineReport(
        rtfx=rtfx,
        clips_per_second=len(work) / work_seconds,
        tape_slots=engine.tape_slots,
        tape_fill=tape_fill(engine, work),
        device_busy=device_busy,
        warm_up_seconds=warm_up_seconds,
        one_clip=Latency.of(repeat(lambda: predict(engine, five), seconds=seconds)),
        full_tape=Latency.of(tape_seconds),
        ladder=tuple(_rung(engine, slots, seconds) for slots in rungs(engine.tape_slots)),
        limits=_limits(engine, rtfx, frames / audio_seconds, seconds=min(seconds, _RATE_SECONDS)),
    )


def segments_of(clips_samples: Sequence[Samples]) -> list[Segment]:
    """The clips of float32 (num_samples,) each, each as one window."""
    normalize = Normalize(max(map(len, clips_samples)) / SAMPLE_RATE_HZ + 1)
    clips = [normalize.clip(samples) for samples in clips_samples]
    return [Segment(clip, clip.windows[0]) for clip in clips]


def predict(engine: Engine, segments: Sequence[Segment]) -> list[Prediction]:
    """From segments, each a clip of its own, to predictions, in the same order.

    Starts a tape before it waits for the last one, as the pipeline does. Raises the JobError of a
    segment that fails.
    """
    predictions: list[Prediction] = []
    running = deque[Started]()
    rest = segments
    while rest or running:
        if rest:
            count = engine.num_next(rest)
            running.append(engine.start(rest[:count]))
            rest = rest[count:]
        if not rest or len(running) > 1:
            outputs = engine.finish(running.popleft())
            predictions += [engine.pool([output]) for output in outputs]
    return predictions


def device_name(engine: Engine) -> str | None:
    """The name of the GPU that the engine runs on; None on a CPU."""
    device = engine.model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def tape_fill(engine: Engine, segments: Sequence[Segment]) -> float:
    """Run the segments: the share of the slots that a segment had a use for."""
    used, run = engine.slots_used, engine.slots_run
    predict(engine, segments)
    return (engine.slots_used - used) / (engine.slots_run - run)


def fill(engine: Engine, drawn: Sequence[Segment]) -> list[Segment]:
    """The clips in turn, until one more would not fit the tape."""
    supply = cycle(drawn)
    fitting = [next(supply)]
    for segment in supply:
        fitting.append(segment)
        count = num_fitting(fitting, gap=engine.model.config.gap, tape_slots=engine.tape_slots)
        if count < len(fitting):
            return fitting[:-1]
    raise AssertionError("cycle never ends")


def _rung(engine: Engine, slots: int, seconds: float) -> Rung:
    """Time a tape full of 5 s clips, the last of them cut to fit."""
    random = np.random.default_rng(0)
    gap = engine.model.config.gap
    five, left = int(FIVE_SECONDS * SAMPLE_RATE_HZ), slots
    waveforms = []
    while left > gap:
        samples = noise(min(five, frame_samples(left - gap)), random)
        waveforms.append(samples)
        left -= gap + segments_of(waveforms[-1:])[0].window.frames
    segments = segments_of(waveforms)
    took = median_seconds(lambda: predict(engine, segments), seconds=min(seconds, _RUNG_SECONDS))
    return Rung(
        slots=slots,
        clips=len(segments),
        ms=1e3 * took,
        us_per_slot=1e6 * took / slots,
        rtfx=sum(map(len, waveforms)) / SAMPLE_RATE_HZ / took,
    )


def _limits(engine: Engine, rtfx: float, frames_per_second: float, *, seconds: float) -> Limits:
    """Measure the device; `frames_per_second` are those of a second of the audio that was run."""
    model = engine.model
    device = Device(model.device, model.dtype, seconds)
    slots = min(engine.tape_slots, _PRODUCT_SLOTS)
    kinds = products(model.config)
    took = {kind.name: device.product_seconds(kind, slots) for kind in kinds}
    flop = slot_flop(model.config) * frames_per_second
    matrix_rate, copy_rate = device.matrix_rate(), device.copy_rate()
    itemsize = model.dtype.itemsize
    # Weights are read once a tape.
    slot = slot_bytes(model.config, itemsize) + weight_bytes(model.config, itemsize) / slots
    rtfx_memory = copy_rate / (slot * frames_per_second)
    rtfx_matrix = matrix_rate / flop
    rtfx_products = slots / frames_per_second / sum(took.values())
    return Limits(
        gflop_per_audio_second=flop / 1e9,
        matrix_gflops=matrix_rate / 1e9,
        rtfx_matrix=rtfx_matrix,
        share_matrix=rtfx / rtfx_matrix,
        product_gflops={kind.name: kind.flop * slots / took[kind.name] / 1e9 for kind in kinds},
        rtfx_products=rtfx_products,
        share_products=rtfx / rtfx_products,
        megabytes_per_audio_second=slot * frames_per_second / 1e6,
        copy_gigabytes_per_second=copy_rate / 1e9,
        rtfx_memory=rtfx_memory,
        share_memory=rtfx / rtfx_memory,
    )
