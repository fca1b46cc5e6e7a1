"""The whole pipeline over files of all kinds, resampled on the device and by decode processes."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from storage.wire.messages import Job
from tests.support.audio_files import mp3
from tests.support.resampling import NO_DIVISOR, RATES, resampler
from tests.support.worker_process import ROOT
from tests.unit.model.parity import copied
from worker.assembly.stages import assemble
from worker.audio.room import Spool
from worker.bench.audio import convert, prolong
from worker.commands.files import LocalFiles, classify
from worker.engine.loading import load_engine
from worker.pipeline.task import Task
from worker.settings import WorkerSettings
from worker.stages.infer import Classified
from worker.telemetry.metrics import Metrics

SAMPLES = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix not in (".md", ".py"))
# Of a score: of files at 16 kHz and more, and of others, of which torchaudio lets a little through
# above half of their rate, and FFmpeg nothing.
MOST_MOVES = (0.01, 0.03)
LOW = [rate for rate in RATES if rate < 16_000]

Results = Mapping[str, Classified]
Both = tuple[Results, Results]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Speech at every rate, the samples as they are, one that is long, one at an odd rate."""
    directory = tmp_path_factory.mktemp("files")
    made = []
    for number, rate_hz in enumerate([*RATES, NO_DIVISOR]):
        form = ("wav", "flac", "mp3")[number % 3]
        if form == "mp3" and rate_hz not in (22_050, 24_000, 32_000, 44_100, 48_000):
            form = "flac"
        for source in (SAMPLES[number % 8], SAMPLES[(number + 3) % 8]):
            made.append(directory / f"{rate_hz}_{source.stem}.{form}")
            convert(source, made[-1], "-ar", str(rate_hz), "-t", "3")
    made.append(directory / "44100_long.mp3")
    prolong(next(path for path in SAMPLES if path.suffix == ".mp3"), made[-1], times=4)
    return [str(path) for path in (*made, *SAMPLES)]


def results(model: Path, way: str, files: list[str]) -> Results:
    """What each file gives. Windows of 4 s, so that there is long audio."""
    settings = WorkerSettings(
        model=str(model), device="cpu", resample=way, decode_processes=1, window_seconds=4
    )
    found = {}
    for each in classify(settings, load_engine(settings), files):
        assert each.classified is not None, each.error
        found[each.file] = each.classified
    return found


@pytest.fixture(scope="module", params=["tiny", "tiny-odd"])
def both(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    files: list[str],
) -> Both:
    """By ffmpeg, and by the device."""
    resampler()
    model = copied(request.param, tmp_path_factory.mktemp("model"))
    return results(model, "ffmpeg", files), results(model, "device", files)


def test_scores_hardly_move(both: Both, files: list[str]) -> None:
    """At every rate; a label stays that is sure by twice as much as a score may move."""
    by_ffmpeg, by_device = both
    moved = set()
    for file in files:
        one, other = by_ffmpeg[file].prediction, by_device[file].prediction
        low = any(Path(file).name.startswith(str(rate)) for rate in LOW) or "voicemail" in file
        most = MOST_MOVES[low]
        moves = [abs(one.scores[label] - other.scores[label]) for label in one.scores]
        assert max(moves) < most, file
        first, second = sorted(one.scores.values(), reverse=True)[:2]
        if first - second > 2 * most:
            assert other.label == one.label, file
        if max(moves):
            moved.add(file)
    assert len(moved) > len(files) // 2  # or both went the same way


def test_all_else_is_the_same(both: Both, files: list[str]) -> None:
    """Seconds to a sample, warnings; and the scores of what is not left to the device."""
    by_ffmpeg, by_device = both
    for file in files:
        one, other = by_ffmpeg[file], by_device[file]
        assert abs(round(16_000 * (other.duration_seconds - one.duration_seconds))) <= 1
        assert other.warnings == one.warnings
        assert other.top.silent == one.top.silent
        if Path(file).name.startswith((str(NO_DIVISOR), "calm_en")):
            # What else was on the tape may differ.
            assert other.prediction.scores == pytest.approx(one.prediction.scores, abs=1e-5)


def test_a_file_gives_what_it_gives_alone(tmp_path: Path, files: list[str]) -> None:
    """Whatever it was resampled with: all at once, and each by itself, to 1e-5."""
    resampler()
    model = copied("tiny", tmp_path)
    some = [file for file in files if Path(file).name.startswith(("8000_", "44100_"))]
    assert len(some) == 5
    together = results(model, "device", some)
    for file in some:
        (alone,) = results(model, "device", [file]).values()
        assert alone.prediction.scores == pytest.approx(together[file].prediction.scores, abs=1e-5)


def test_files_that_fail_fail_both_ways(tmp_path: Path) -> None:
    """With the same words."""
    resampler()
    model = copied("tiny", tmp_path)
    broken = {"empty.wav": b"", "noise.bin": bytes(range(256)) * 40, "short.mp3": mp3(0.01)[:200]}
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    said = []
    for way in ("ffmpeg", "device"):
        settings = WorkerSettings(model=str(model), device="cpu", resample=way, decode_processes=1)
        names = [str(tmp_path / name) for name in broken]
        found = classify(settings, load_engine(settings), names)
        said.append({each.file: (type(each.error), str(each.error)) for each in found})
    assert said[0] == said[1]


def test_a_job_is_charged_for_both_rates(tmp_path: Path) -> None:
    """Before it is decoded, a device that resamples takes twice the memory: it may hold both."""
    resampler()
    model = copied("tiny", tmp_path)
    charged = {}
    for way in ("ffmpeg", "device"):
        settings = WorkerSettings(model=str(model), device="cpu", resample=way, decode_processes=1)
        assembly = assemble(
            settings,
            load_engine(settings),
            LocalFiles(),
            Spool(tmp_path, 10**9),
            settle=lambda tasks: None,
            metrics=Metrics(),
        )
        budget = assembly.pipeline._budget
        task = Task(Job("1", "a.wav"), value=None)
        budget.charge(task)
        budget.admit(1_000)
        charged[way] = task.charged_bytes - 1_000
        assembly.close()
    assert charged == {"ffmpeg": 4 * 480_000, "device": 8 * 480_000}
