"""The normalize stage against torch's layer norm, and against samples that are no audio."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from storage.errors import AudioTooShort, NotAudio
from tests.support.audio_files import tone
from tests.unit.model.parity import written
from worker.stages.normalize import Normalize

RNG = np.random.default_rng(0)


def noise(num_samples: int, *, scale: float = 0.1, offset: float = 0.0) -> NDArray[np.float32]:
    """Gaussian noise, float32 (num_samples,)."""
    return (offset + scale * RNG.standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(tone(0.1), id="tone"),
        pytest.param(noise(400), id="one frame"),
        pytest.param(noise(200_000), id="several chunks"),
        pytest.param(noise(80_000, offset=0.3), id="direct current"),
        pytest.param(noise(80_000, scale=1e-4), id="very quiet"),
        pytest.param(np.zeros(80_000, np.float32), id="digital silence"),
    ],
)
def test_agrees_with_layer_norm(samples: NDArray[np.float32]) -> None:
    """What a clip writes to a tape is layer norm over the whole clip, within 1e-6."""
    clip = Normalize(30).clip(samples)
    (window,) = clip.windows
    tape = written(clip, window)
    exact = torch.nn.functional.layer_norm(torch.from_numpy(samples).double(), (len(samples),))
    np.testing.assert_allclose(tape, exact[: len(tape)].numpy(), rtol=1e-6, atol=1e-6)


def test_statistics_are_of_the_whole_clip() -> None:
    """A long clip is cut into windows that share one mean and scale, and cover every frame."""
    samples = np.concatenate([noise(40_000), noise(40_000, scale=0.5)])
    clip = Normalize(1.0).clip(samples)
    assert clip.mean == pytest.approx(samples.mean(dtype=np.float64), abs=1e-12)
    assert clip.scale == pytest.approx((samples.var(dtype=np.float64) + 1e-5) ** -0.5, rel=1e-12)
    assert [window.start for window in clip.windows[1:]] == [w.stop for w in clip.windows[:-1]]
    assert clip.windows[-1].stop == (len(samples) - 400) // 320 + 1
    assert len(clip.windows) > 1


@pytest.mark.parametrize("seconds", [1, 20])
@pytest.mark.parametrize("offset", [0, 20_000])
def test_integers_give_what_the_same_floats_give(seconds: int, offset: int) -> None:
    """Their statistics are exact, however large the offset; those of floats agree."""
    samples = (offset + 3_000 * RNG.standard_normal(16_000 * seconds)).astype(np.int16)
    clip = Normalize(30).clip(samples)
    exact = samples.astype(np.float64) / 32_768
    assert clip.mean == pytest.approx(exact.mean(), rel=1e-13, abs=1e-15)
    assert clip.scale == pytest.approx((exact.var() + 1e-5) ** -0.5, rel=1e-13)
    same = Normalize(30).clip(exact.astype(np.float32))
    assert (clip.mean, clip.scale) == pytest.approx((same.mean, same.scale), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("loud", [-11, 11])
def test_integers_are_silent_as_floats_are(loud: int) -> None:
    """One sample above -70 dBFS, on either side, is heard."""
    samples = np.zeros(16_000, np.int16)
    samples[100] = loud // 11 * 10
    assert Normalize(30).clip(samples).silent
    samples[100] = loud
    assert not Normalize(30).clip(samples).silent


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("place", [0, 70_000, -1])
def test_samples_that_are_no_numbers_are_refused(bad: float, place: int) -> None:
    """One sample that is not finite, or absurdly large, anywhere in the clip fails it."""
    samples = noise(100_000)
    samples[place] = bad
    with pytest.raises(NotAudio, match="finite"):
        Normalize(30).clip(samples)


def test_less_than_a_frame_is_refused() -> None:
    """399 samples are too short."""
    with pytest.raises(AudioTooShort, match="400"):
        Normalize(30).clip(noise(399))
