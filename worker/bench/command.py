"""`python -m worker bench`: one part of the worker measured, and the record of where."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from storage.objects.local_files import is_audio
from storage.settings import InvalidSettings
from worker.bench.choices import LONGEST_SECONDS, Format, Lengths, Part, Store
from worker.bench.decode import measure_decode
from worker.bench.end_to_end import doubts, measure_end_to_end
from worker.bench.feed import measure_feed
from worker.bench.machine import LoadWatch, describe_machine
from worker.bench.report import Report, Result
from worker.bench.speech import measure_speech
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.engine.engine import Engine

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def measure(
    part: Part,
    settings: WorkerSettings,
    load: Callable[[], "Engine"],
    *,
    lengths: Lengths,
    seconds: float,
    store: Store = Store.DIR,
    form: Format = Format.WAV,
) -> Report:
    """Measure one part; `load` gives the engine that the settings ask for.

    Raises InvalidSettings, JobError, NoServer, ServiceFailed.
    """
    if part in {Part.ENGINE, Part.END_TO_END} and settings.window_seconds < LONGEST_SECONDS:
        raise InvalidSettings(
            [
                f"EMO_WINDOW_SECONDS={settings.window_seconds:g}: the clips of this benchmark are "
                f"up to {LONGEST_SECONDS:g} s long; give at least that"
            ]
        )
    watch, gpu, dtype = LoadWatch(), None, ""
    files = [file for file in sorted(SAMPLES.iterdir()) if is_audio(file)]
    result: Result
    doubted: list[str] = []
    with tempfile.TemporaryDirectory(prefix="emostream-bench-") as name:
        directory = Path(name)
        match part:
            case Part.ENGINE:
                # Not above: it imports torch, and the other parts go without.
                from worker.bench.engine import device_name, measure_engine  # noqa: PLC0415

                engine = load()
                gpu = device_name(engine)
                dtype = str(engine.model.dtype).removeprefix("torch.")
                result = measure_engine(engine, lengths=lengths, seconds=seconds)
            case Part.DECODE:
                result = measure_decode(settings, files, directory=directory, seconds=seconds)
            case Part.SPEECH:
                result = measure_speech(settings, files, seconds=seconds)
            case Part.FEED:
                result = measure_feed(
                    settings,
                    store=store,
                    form=form,
                    samples=SAMPLES,
                    directory=directory,
                    seconds=seconds,
                )
            case Part.END_TO_END:
                result = measure_end_to_end(
                    settings, load, lengths=lengths, directory=directory, seconds=seconds
                )
                dtype, doubted = result.dtype, doubts(result.half_load)
    return Report(
        part=part,
        machine=describe_machine(gpu),
        model=settings.model,
        dtype=dtype,
        clips=f"{lengths}: {lengths.meaning}",
        warnings=(*watch.warnings(), *doubted),
        result=result,
    )
