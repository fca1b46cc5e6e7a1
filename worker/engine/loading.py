"""From a model's name to an engine."""

import time

import structlog
import torch

from worker.clip import SAMPLE_RATE_HZ
from worker.engine.engine import Engine
from worker.engine.resampler import require_torchaudio
from worker.model import hub, weights
from worker.model.device import resolve_device, resolve_dtype, wider_dtype
from worker.model.model import Model
from worker.model.synthetic import synthetic
from worker.model.value_range import largest_value
from worker.settings import WorkerSettings

# What is stored is rounded, so it may be a little more than what the bounds say.
_FLOAT16_SHARE = 0.99

log = structlog.get_logger(__name__)


def load_engine(settings: WorkerSettings) -> Engine:
    """Load the model; the pipeline warms the engine up, on the thread that will run it.

    Raises ModelError, ModelUnavailable, DeviceError.
    """
    started = time.monotonic()
    if settings.resample == "device":
        require_torchaudio()
    torch.set_num_threads(settings.compute_threads)
    model = _load_model(settings)
    if model.untrained:
        log.warning("model.untrained", model=model.name, meaning="its labels mean nothing")
    engine = Engine(model, tape_slots=settings.tape_slots, window_seconds=settings.window_seconds)
    log.info(
        "engine.loaded",
        model=model.name,
        revision=model.revision,
        device=str(model.device),
        dtype=str(model.dtype),
        tape_slots=engine.tape_slots,
        seconds=round(time.monotonic() - started, 2),
    )
    return engine


def _load_model(settings: WorkerSettings) -> Model:
    device = resolve_device(settings.device)
    dtype = resolve_dtype(settings.dtype, device)
    model = _read_model(settings, device, dtype)
    if dtype is not torch.float16:
        return model
    num_samples = int(settings.max_audio_seconds * SAMPLE_RATE_HZ)
    bound = largest_value(model.network, num_samples)
    if bound.value <= _FLOAT16_SHARE * torch.finfo(torch.float16).max:
        return model
    wider = wider_dtype(device) if settings.dtype == "auto" else dtype
    log.warning(
        "model.range_too_wide", where=bound.where, values_up_to=bound.value, dtype=str(wider)
    )
    if wider is dtype:
        return model
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()  # or the tapes would be made shorter for want of it
    return _read_model(settings, device, wider)


def _read_model(settings: WorkerSettings, device: torch.device, dtype: torch.dtype) -> Model:
    if settings.model == "random:large":
        return synthetic("large", device=device, dtype=dtype)
    if settings.model == "random:tiny":
        return synthetic("tiny", device=device, dtype=dtype)
    source = hub.resolve(settings.model, settings.model_revision)
    return weights.load(
        source.directory, name=source.name, revision=source.revision, device=device, dtype=dtype
    )
