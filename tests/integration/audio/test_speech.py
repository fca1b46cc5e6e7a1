"""Where speech is: Silero's network on the sample clips, and on all that is none."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import InvalidJob
from storage.objects.blob import Blob
from storage.objects.local_files import is_audio
from tests.support.audio_files import ample_limits, tone
from tests.support.worker_process import ROOT
from worker.audio import speech
from worker.audio.commandline import decode_isolated
from worker.audio.speech import SpeechDetector
from worker.audio.turns import SpeechOptions
from worker.clip import SAMPLE_RATE_HZ, Samples

CLIPS = sorted(path for path in (ROOT / "samples").iterdir() if is_audio(path))
STEP = SAMPLE_RATE_HZ // 100
QUIET = 1e-4  # 40 dB below the loudest moment
PAUSE_SECONDS = 0.45  # shorter ones the network may hear or not
UNPADDED = SpeechOptions(pad_seconds=0)


def seconds(duration: float) -> int:
    """Samples in so many seconds."""
    return int(duration * SAMPLE_RATE_HZ)


def heard(clip: Samples) -> list[tuple[float, float]]:
    """Where a clean clip is loud, in seconds, from pause to pause."""
    power = np.square(clip[: len(clip) // STEP * STEP]).reshape(-1, STEP).mean(axis=1)
    loud = np.flatnonzero(power > QUIET * power.max())
    after = np.flatnonzero(np.diff(loud) > PAUSE_SECONDS * 100)
    starts, stops = loud[np.append(0, after + 1)], loud[np.append(after, -1)] + 1
    return list(zip((starts / 100).tolist(), (stops / 100).tolist(), strict=True))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Samples]:
    """The sample clips, as decoded."""
    limits = ample_limits(tmp_path_factory.mktemp("spool"))
    return [decode_isolated(Blob.open(path), limits)[0].floats() for path in CLIPS]


@pytest.fixture(scope="module")
def recording(clips: list[Samples]) -> tuple[Samples, list[tuple[float, float]]]:
    """All clips with silences of 0.8 to 2.5 s around them, and where somebody speaks."""
    random = np.random.default_rng(3)
    parts, truth, length = [], [], 0
    for clip in clips:
        silence = np.zeros(seconds(random.uniform(0.8, 2.5)), np.float32)
        begin = (length + len(silence)) / SAMPLE_RATE_HZ
        truth += [(begin + start, begin + stop) for start, stop in heard(clip)]
        parts += [silence, clip]
        length += len(silence) + len(clip)
    return np.concatenate([*parts, np.zeros(seconds(1), np.float32)]), truth


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.005])
def test_turns_are_where_somebody_speaks(
    recording: tuple[Samples, list[tuple[float, float]]], noise: float
) -> None:
    """Within 0.15 s, in silence and in noise up to 46 dB below full scale."""
    samples, truth = recording
    random = np.random.default_rng(1)
    noisy = samples + random.normal(0, noise, len(samples)).astype(np.float32)
    found = np.array(SpeechDetector(UNPADDED)(noisy)) / SAMPLE_RATE_HZ
    assert found.shape == (len(CLIPS) + 1, 2)  # one of them pauses
    np.testing.assert_allclose(found, truth, rtol=0, atol=0.15)


def test_padding_is_added(recording: tuple[Samples, list[tuple[float, float]]]) -> None:
    """0.1 s on both sides, for the silences are long enough."""
    samples, _ = recording
    plain, padded = (np.array(SpeechDetector(o)(samples)) for o in (UNPADDED, SpeechOptions()))
    np.testing.assert_array_equal(padded - plain, np.tile([-1600, 1600], (len(plain), 1)))


def test_an_unbroken_speaker_is_cut(clips: list[Samples]) -> None:
    """Two minutes without a pause become turns of at most 30 s, which touch."""
    spoken = clips[[path.name for path in CLIPS].index("excited_en.mp3")]
    ((start, stop),) = heard(spoken)
    samples = np.tile(spoken[seconds(start) : seconds(stop)], 34)
    found = SpeechDetector(SpeechOptions())(samples)
    assert len(found) >= 4
    assert max(turn.stop_sample - turn.start_sample for turn in found) <= seconds(30)
    assert [turn.start_sample for turn in found[1:]] == [turn.stop_sample for turn in found[:-1]]


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(0), id="nothing"),
        pytest.param(np.ones(1), id="one sample"),
        pytest.param(np.zeros(400), id="a frame of silence"),
        pytest.param(np.zeros(seconds(40)), id="silence"),
        pytest.param(np.full(seconds(3), np.nan), id="no numbers"),
        pytest.param(np.full(seconds(3), np.inf), id="infinity"),
        pytest.param(np.full(seconds(3), 1e38), id="huge"),
        pytest.param(np.full(seconds(3), 1e-40), id="denormal"),
        pytest.param(np.random.default_rng(2).normal(0, 0.01, seconds(20)), id="noise"),
        pytest.param(tone(20.0), id="a tone"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_speech_has_no_turns(samples: NDArray[np.float64]) -> None:
    """However short or broken it is."""
    assert SpeechDetector(SpeechOptions())(samples.astype(np.float32)) == []


def test_a_short_file_is_one_turn(clips: list[Samples]) -> None:
    """Half a second out of a sentence."""
    ((start, _), *_) = heard(clips[0])
    samples = clips[0][seconds(start) + 3_000 :][: seconds(0.5)]
    ((begin, end),) = SpeechDetector(SpeechOptions())(samples)
    assert begin <= seconds(0.15)
    assert end == len(samples)


def test_what_is_no_number_spoils_nothing_else(
    recording: tuple[Samples, list[tuple[float, float]]],
) -> None:
    """The network remembers, and would remember NaN for ever."""
    samples, truth = recording
    broken = samples.copy()
    broken[: seconds(0.5)] = np.nan
    broken[seconds(0.5) : seconds(0.6)] = -np.inf
    assert len(SpeechDetector(UNPADDED)(broken)) == len(truth)


def test_a_view_of_any_stride_and_a_map_are_as_good_as_a_copy(
    recording: tuple[Samples, list[tuple[float, float]]], tmp_path: Path
) -> None:
    """One channel of two, backwards in memory, or a file that nobody may write to."""
    samples, _ = recording
    stereo = np.stack([samples, np.zeros_like(samples)], axis=1)
    backwards = np.ascontiguousarray(samples[::-1])
    (tmp_path / "pcm").write_bytes(samples.tobytes())
    mapped = np.memmap(tmp_path / "pcm", np.float32, "r")
    detector = SpeechDetector(SpeechOptions())
    expected = detector(samples)
    for view in (stereo[:, 0], backwards[::-1], mapped):
        assert detector(view) == expected


def test_threads_and_repetitions_give_the_same(
    recording: tuple[Samples, list[tuple[float, float]]],
) -> None:
    """Four threads with one detector, on different audio, beside what each gives alone."""
    samples, _ = recording
    detector = SpeechDetector(SpeechOptions())
    parts = [samples[seconds(start) :] for start in range(4)]
    alone = [detector(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector, parts * 2)) == alone * 2


@pytest.mark.parametrize("block_chunks", [1, 7, 64])
def test_nobody_can_tell_where_blocks_end(
    recording: tuple[Samples, list[tuple[float, float]]],
    monkeypatch: pytest.MonkeyPatch,
    block_chunks: int,
) -> None:
    """What the network remembers and has seen goes on from one to the next."""
    samples = recording[0][: seconds(18) + 5]
    expected = speech._measure(samples)
    monkeypatch.setattr(speech, "_BLOCK_CHUNKS", block_chunks)
    for found, wanted in zip(speech._measure(samples), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_the_probabilities_are_those_of_silero(
    recording: tuple[Samples, list[tuple[float, float]]], tmp_path: Path
) -> None:
    """By its own loop, in a process of its own: it sets torch to one thread."""
    samples, _ = recording
    np.save(tmp_path / "samples.npy", samples)
    program = (
        "import numpy, silero_vad\n"
        "model = silero_vad.load_silero_vad(sequence=True)\n"
        "numpy.save('theirs.npy', model.audio_forward(numpy.load('samples.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    probability, _ = speech._measure(samples)
    np.testing.assert_allclose(probability, np.load(tmp_path / "theirs.npy"), rtol=0, atol=1e-6)


def test_torch_keeps_its_threads() -> None:
    """The network of the worker runs on them."""
    program = (
        "import sys, numpy, torch\n"
        "from worker.audio.speech import SpeechDetector, SpeechOptions\n"
        "torch.set_num_threads(3)\n"
        "SpeechDetector(SpeechOptions())(numpy.zeros(16_000, numpy.float32))\n"
        "assert torch.get_num_threads() == 3\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


class Network:
    """Hears speech in what is loud."""

    def run(self, names: list[str], feeds: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Probability 1 where a chunk is not silent."""
        loud = np.abs(feeds["input"]).max(axis=1) > 0.1
        return loud.astype(np.float32), feeds["h"], feeds["c"]


def test_hours_need_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six hours, 1.4 GB as an array, are read in blocks; a few numbers a chunk are kept."""
    monkeypatch.setattr(speech, "_load_network", Network)
    samples = np.lib.stride_tricks.as_strided(
        np.full(1, 0.5, np.float32), (6 * seconds(3_600),), (0,), writeable=False
    )
    detector = SpeechDetector(SpeechOptions())
    tracemalloc.start()
    try:
        found = detector(samples)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * 6e6
    assert 720 <= len(found) <= 1_440
    assert (found[0].start_sample, found[-1].stop_sample) == (0, len(samples))


def test_the_network_itself_needs_no_more_for_longer_audio() -> None:
    """Ten minutes, 38 MB as an array, beside twenty seconds; in a process that has done nothing."""
    program = (
        "import resource, numpy\n"
        "from worker.audio.speech import SpeechDetector, SpeechOptions\n"
        "one, detect = numpy.full(1, 0.1, numpy.float32), SpeechDetector(SpeechOptions())\n"
        "for seconds in (20, 600):\n"
        "    detect(numpy.lib.stride_tricks.as_strided(one, (16_000 * seconds,), (0,)))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120, capture_output=True
    )
    short_kib, long_kib = map(int, ran.stdout.split())
    assert long_kib - short_kib < 12_000


@pytest.fixture
def no_network_yet() -> Iterator[None]:
    """As in a worker that has just started."""
    speech._load_network.cache_clear()
    yield
    speech._load_network.cache_clear()


def _nowhere(name: str) -> Any:
    raise PackageNotFoundError(name)


class _Older:
    """An installation without the weights."""

    def locate_file(self, path: str) -> Path:
        """Not there."""
        return Path("/nonexistent") / path


@pytest.mark.usefixtures("no_network_yet")
@pytest.mark.parametrize("missing", ["onnxruntime", "silero-vad", "its weights"])
def test_without_its_packages_the_job_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """When it is asked for and not before; and it works as soon as they are there."""
    with monkeypatch.context() as patch:
        match missing:
            case "onnxruntime":
                patch.setitem(sys.modules, "onnxruntime", None)
            case "silero-vad":
                patch.setattr(speech, "distribution", _nowhere)
            case _:
                patch.setattr(speech, "distribution", lambda name: _Older())
        detector = SpeechDetector(SpeechOptions())
        with pytest.raises(InvalidJob, match=r"segments=speech.*pip install -e '.\[speech\]'"):
            detector(np.zeros(seconds(1), np.float32))
    assert detector(np.zeros(seconds(1), np.float32)) == []
