"""Which rates are left to a device, and how much of them lies in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resampling import NO_DIVISOR, RATES, resampler
from worker.audio.rates import (
    INT16_BYTES,
    MOST_FILTER_VALUES,
    Form,
    filter_reach,
    is_left_to_device,
    num_filter_values,
    num_resampled,
)

WINDOW = 480_000
RATE = st.integers(1_000, 768_000)


@pytest.mark.parametrize("rate_hz", [*RATES, 12_000, 88_200, 96_000, 176_400, 192_000, 768_000])
def test_what_recordings_have_is_left_to_a_device(rate_hz: int) -> None:
    """All rates in use, from telephones to studios."""
    assert is_left_to_device(rate_hz, 16_000)


@pytest.mark.parametrize("rate_hz", [16_000, NO_DIVISOR, 44_056, 15_999, 7_333, 0, 999, 768_001])
def test_what_is_not_left_to_a_device(rate_hz: int) -> None:
    """What is at the model's rate, what needs filters without end, and what is no sound."""
    assert not is_left_to_device(rate_hz, 16_000)


@pytest.mark.parametrize("rate_hz", [*RATES, 33_075, 96_000])
def test_filters_are_as_large_as_torchaudio_makes_them(rate_hz: int) -> None:
    """The bound is one on what torchaudio really makes, and so is what it sees to each side."""
    resampler()
    from torchaudio.transforms import Resample  # noqa: PLC0415 (on the path only now)

    made = Resample(rate_hz, 16_000)
    assert num_filter_values(rate_hz, 16_000) == made.kernel.numel()
    assert filter_reach(rate_hz, 16_000) == made.width


@given(RATE, st.sampled_from([INT16_BYTES, 4]))
def test_a_memory_holds_no_more_than_a_window(rate_hz: int, sample_bytes: int) -> None:
    """In bytes as in seconds, also of what is made of it; and as much of it as that allows."""
    form = Form(rate_hz, sample_bytes)
    samples = form.part_samples(WINDOW, 16_000)
    assert samples * sample_bytes <= 4 * WINDOW
    assert num_resampled(samples, rate_hz, 16_000) <= WINDOW
    more = samples + 1
    assert more * sample_bytes > 4 * WINDOW or 16_000 * more > WINDOW * rate_hz


@given(RATE, st.integers(0, 10**9))
def test_what_is_within_a_limit_is_so_once_it_is_resampled(rate_hz: int, limit: int) -> None:
    """The longest that is allowed at its own rate is not too long at the model's; more is."""
    most = Form(rate_hz, 4).within(limit, 16_000)
    assert num_resampled(most, rate_hz, 16_000) <= limit < num_resampled(most + 1, rate_hz, 16_000)


def test_the_bound_is_what_it_is_said_to_be() -> None:
    """11,025 Hz is the largest of the usual."""
    assert max(num_filter_values(rate, 16_000) for rate in RATES) == 291_200 < MOST_FILTER_VALUES
