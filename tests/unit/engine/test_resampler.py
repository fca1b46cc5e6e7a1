"""The resampler: torchaudio's answer, for each clip the same whatever it comes with."""

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.resampling import RATES, noise, resampler
from worker.engine import resampler as resampling
from worker.engine.loading import load_engine
from worker.engine.resampler import DeviceResampler, resampler_for
from worker.model.device import DeviceError
from worker.settings import WorkerSettings

CPU, GPU = torch.device("cpu"), torch.device("cuda")
# Where sums of float32 are taken in another order.
TOLERANCE = 1e-6


@pytest.fixture
def no_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without it, whatever this one has."""
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)


@pytest.mark.parametrize("rate_hz", RATES)
def test_it_is_torchaudio(rate_hz: int) -> None:
    """As `functional.resample`, whose filters are rounded to float32 on the way; and as long."""
    resample = resampler()
    from torchaudio.functional import resample as functional  # noqa: PLC0415 (on the path now)

    clip = noise(2 * rate_hz + 17)
    (made,) = resample(rate_hz, [clip])
    expected = functional(torch.from_numpy(clip), rate_hz, 16_000).numpy()
    assert made.dtype == np.float32
    assert len(made) == len(expected)
    np.testing.assert_allclose(made, expected, atol=5e-5)


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_clip_gives_the_same_whatever_comes_with_it(rate_hz: int) -> None:
    """On a CPU to the last bit: shorter, longer and louder ones, and one that is no audio."""
    resample = resampler()
    clip = noise(rate_hz + 321)
    (alone,) = resample(rate_hz, [clip])
    others: list[Any] = [
        noise(400, 1),
        1e6 * noise(3 * rate_hz, 2),
        np.full(rate_hz, np.nan, np.float32),
    ]
    for number in range(4):
        among = [*others[:number], clip, *others[number:]]
        assert np.array_equal(resample(rate_hz, among)[number], alone)


@pytest.mark.parametrize("rate_hz", RATES)
def test_nothing_of_a_batch_gets_into_a_clip(rate_hz: int) -> None:
    """In one call, as on a GPU: within 1e-6 of alone, beside the same."""
    together, alone = resampler(together=True), resampler()
    loud: Any = (32_767 * noise(3 * rate_hz, 2).clip(-1, 1)).astype(np.int16)
    clips: list[Any] = [
        noise(rate_hz + 321),
        noise(400, 1),
        loud,
        1e6 * noise(2 * rate_hz, 3),
        np.full(rate_hz, np.nan, np.float32),
        loud[:999],
    ]
    for clip, made in zip(clips, together(rate_hz, clips), strict=True):
        (expected,) = alone(rate_hz, [clip])
        np.testing.assert_allclose(made, expected, atol=TOLERANCE * max(1, np.abs(clip).max()))


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 16_000, 48_000])
def test_a_batch_is_bounded(rate_hz: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills up the shorter ones counts, and what a low rate becomes; each clip is in one."""
    monkeypatch.setattr(resampling, "_MOST_BATCH_SAMPLES", 100 * max(1, 16_000 // rate_hz))
    lengths = [90, 10, 10, 200, 40, 50, 10]
    clips: list[Any] = [np.zeros(each, np.float32) for each in lengths]
    clips[6] = np.zeros(10, np.int16)
    batches = list(resampling._batches(rate_hz, clips))
    assert sorted(number for batch in batches for number in batch) == list(range(7))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[each] for each in batch) <= 100
        assert len({clips[each].dtype for each in batch}) == 1
    assert len(batches) < len(clips)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_int16_stands_for_what_it_stands_for(rate_hz: int) -> None:
    """As the floats that it is, to the last bit; and no read-only map is written to."""
    resample = resampler()
    clip = (32_767 * noise(rate_hz).clip(-1, 1)).astype(np.int16)
    clip.setflags(write=False)
    floats: Any = clip.astype(np.float32) / 32_768
    assert np.array_equal(resample(rate_hz, [clip])[0], resample(rate_hz, [floats])[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(RATES), st.integers(0, 60_000), st.lists(st.integers(0, 60_000), max_size=6))
def test_a_long_clip_has_no_seams(rate_hz: int, num_samples: int, cuts: list[int]) -> None:
    """Wherever it is cut, in parts of a sample or of none: what one call gives, and as long."""
    resample = resampler()
    clip = noise(num_samples)
    edges = [0, *sorted(min(cut, num_samples) for cut in cuts), num_samples]
    stream = resample.stream(rate_hz)
    parts = [
        stream.push(clip[start:stop], last=number == len(edges) - 2)
        for number, (start, stop) in enumerate(pairwise(edges))
    ]
    made = np.concatenate(parts)
    (expected,) = resample(rate_hz, [clip])
    assert len(made) == len(expected)
    np.testing.assert_allclose(made, expected, atol=TOLERANCE)


def test_a_stream_holds_only_what_its_filters_see() -> None:
    """However much has gone through: hours take no more than a moment."""
    stream = resampler().stream(44_100)
    for _ in range(20):
        stream.push(noise(44_100), last=False)
    assert stream._kept is not None
    assert len(stream._kept) < 4 * 441


def test_filters_are_made_once() -> None:
    """And not without end: a sender may choose any rate."""
    resample = resampler()
    for rate_hz in [44_100, 44_100, *range(20_000, 40_000, 1_000), 44_100]:
        resample(rate_hz, [noise(1_000)])
    found = resample._filters.cache_info()
    assert (found.hits, found.misses, found.currsize) == (1, 22, 16)


def test_what_a_gpu_does_not_do_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, or not there at all, as here: the clips are none the worse, and it is said."""
    expected = resampler()(8_000, [noise(800)])
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    broken = DeviceResampler(GPU)
    with structlog.testing.capture_logs() as logs:
        made = broken(8_000, [noise(800), noise(900)])
    assert np.array_equal(made[0], expected[0])
    assert len(made[1]) == 1_800
    assert [(each["event"], each["log_level"]) for each in logs] == [("resample.failed", "warning")]


@pytest.mark.parametrize(
    ("setting", "device"), [("ffmpeg", CPU), ("ffmpeg", GPU), ("auto", CPU)], ids=str
)
def test_decode_processes_resample(setting: str, device: torch.device) -> None:
    """Where that was asked for; and by default on a CPU, with torchaudio or without."""
    with structlog.testing.capture_logs() as logs:
        assert resampler_for(setting, device) is None
    assert not logs


def test_a_device_resamples_where_it_was_asked_to() -> None:
    """On a CPU too."""
    resampler()
    assert resampler_for("device", CPU) is not None


def test_a_gpu_resamples_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torchaudio at hand."""
    resampler()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    assert resampler_for("auto", GPU) is not None


@pytest.mark.usefixtures("no_torchaudio")
def test_by_default_a_gpu_without_torchaudio_goes_on_and_says_so() -> None:
    """Loudly: it is slower than it could be."""
    with structlog.testing.capture_logs() as logs:
        assert resampler_for("auto", GPU) is None
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("resample.no_torchaudio", "warning")
    ]


@pytest.mark.usefixtures("no_torchaudio")
def test_no_worker_starts_without_the_torchaudio_that_was_asked_for() -> None:
    """Before it has loaded anything; the message says what to do."""
    with pytest.raises(DeviceError, match=r"EMO_RESAMPLE.*torchaudio.*pip install"):
        load_engine(WorkerSettings(model="/nowhere", resample="device"))
    with pytest.raises(DeviceError):
        resampler_for("device", CPU)


def test_a_library_that_does_not_load_is_no_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a torch that was built for something else."""

    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("torchaudio"):
                raise OSError("libcudart.so.13: cannot open shared object file")

    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(DeviceError, match="libcudart"):
        resampler_for("device", CPU)
