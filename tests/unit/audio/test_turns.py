"""From speech probabilities to turns."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.audio.turns import CHUNK_SAMPLES, SpeechOptions, Turn, find_turns
from worker.clip import SAMPLE_RATE_HZ

PLAIN = {"min_turn_seconds": 0.0, "merge_gap_seconds": 0.0, "pad_seconds": 0.0}
CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE_HZ


def turns(
    probability: list[float], *, power: Any = None, num_samples: int | None = None, **options: Any
) -> list[tuple[int, int]]:
    """The turns of these chunks, with nothing done to them but what `options` ask for."""
    found = find_turns(
        np.array(probability, np.float32),
        np.ones(len(probability), np.float32) if power is None else np.asarray(power, np.float32),
        len(probability) * CHUNK_SAMPLES if num_samples is None else num_samples,
        SpeechOptions(**{**PLAIN, **options}),
    )
    return [(start, stop) for start, stop in found]


def in_chunks(found: list[tuple[int, int]]) -> list[tuple[float, float]]:
    """The turns' bounds in chunks."""
    return [(start / CHUNK_SAMPLES, stop / CHUNK_SAMPLES) for start, stop in found]


def chunks(seconds: float) -> int:
    """As many whole chunks as there are in some seconds."""
    return int(seconds / CHUNK_SECONDS)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([0.1] * 4, [], id="silence"),
        pytest.param([0.9] * 4, [(0, 4)], id="speech from end to end"),
        pytest.param([0.1, 0.5, 0.1], [(1, 2)], id="the threshold itself is speech"),
        pytest.param([0.4, 0.9, 0.4, 0.4, 0.3], [(1, 4)], id="it goes on above the lower one"),
        pytest.param([0.9, 0.3, 0.45, 0.9], [(0, 1), (3, 4)], id="and does not begin there"),
        pytest.param([0.45, 0.45], [], id="nor at the very beginning"),
        pytest.param([0.45, 0.3, 0.9], [(2, 3)], id="whatever comes at the end"),
        pytest.param([0.9, 0.45], [(0, 2)], id="the end ends it"),
    ],
)
def test_speech_begins_above_one_threshold_and_ends_below_another(
    probability: list[float], expected: list[tuple[int, int]]
) -> None:
    """0.5 and 0.35 by default; between them nothing changes."""
    assert in_chunks(turns(probability)) == expected


def test_the_lower_threshold_stays_above_zero() -> None:
    """Or a turn that has begun at a low one would never end."""
    assert in_chunks(turns([0.2, 0.0, 0.0, 0.2], threshold=0.1)) == [(0, 1), (3, 4)]


def test_the_last_turn_ends_with_the_audio() -> None:
    """Its last chunk may be filled up with what is not there."""
    assert turns([0.9, 0.9], num_samples=CHUNK_SAMPLES + 7) == [(0, CHUNK_SAMPLES + 7)]


def test_short_gaps_are_closed_and_others_are_not() -> None:
    """A gap of the length itself parts turns."""
    probability = [0.9, 0.0, 0.9, 0.0, 0.0, 0.9]
    found = turns(probability, merge_gap_seconds=2 * CHUNK_SECONDS)
    assert in_chunks(found) == [(0, 3), (5, 6)]


def test_short_turns_are_dropped_once_gaps_are_closed() -> None:
    """A word in two pieces is a word; a click is none, and a turn of the length itself is kept."""
    probability = [0.9, 0.0, 0.9, 0.0, 0.0, 0.9, 0.0, 0.0, 0.9, 0.9, 0.9]
    found = turns(
        probability, merge_gap_seconds=2 * CHUNK_SECONDS, min_turn_seconds=3 * CHUNK_SECONDS
    )
    assert in_chunks(found) == [(0, 3), (8, 11)]


def test_padding_stays_within_the_audio_and_meets_halfway() -> None:
    """Where there is room it is what was asked for."""
    probability = [0.0, 0.9, *[0.0] * 3, 0.9, *[0.0] * 9, 0.9, 0.0]
    found = turns(probability, pad_seconds=2 * CHUNK_SECONDS)
    assert in_chunks(found) == [(0, 3.5), (3.5, 8), (13, 17)]


def test_a_turn_that_is_dropped_takes_no_room() -> None:
    """Its neighbours are padded as if it had not been."""
    probability = [0.9, 0.9, 0.0, 0.9, 0.0, 0.9, 0.9]
    found = turns(probability, min_turn_seconds=2 * CHUNK_SECONDS, pad_seconds=1.0)
    assert in_chunks(found) == [(0, 3.5), (3.5, 7)]


def test_a_long_turn_is_cut_where_it_is_quietest() -> None:
    """Not at a moment's silence, as before a `t`, but at a pause; on none of the loud sides."""
    power = np.ones(chunks(50))
    power[chunks(20)] = 0.0  # 32 ms
    pause = slice(chunks(26), chunks(26) + 6)
    power[pause] = 0.01
    power[chunks(5) : chunks(6)] = 0.0  # too early to be of use
    found = turns([0.9] * len(power), power=power, max_turn_seconds=30)
    assert len(found) == 2
    (_, cut), (start, stop) = in_chunks(found)
    assert pause.start < cut < pause.stop
    assert (start, stop) == (cut, len(power))


def test_a_turn_a_little_too_long_leaves_no_sliver() -> None:
    """Even if it is quiet at its very end."""
    power = np.ones(chunks(30.2))
    power[-chunks(0.3) :] = 0.0
    found = turns([0.9] * len(power), power=power, max_turn_seconds=30, min_turn_seconds=0.5)
    (_, cut), (_, stop) = found
    assert stop - cut >= 0.5 * SAMPLE_RATE_HZ


def test_no_turn_is_too_long_with_its_padding() -> None:
    """What goes on a tape is the padded turn."""
    speech = [0.0] * 40 + [0.9] * chunks(29.9) + [0.0] * 40
    found = turns(speech, pad_seconds=0.1, max_turn_seconds=30)
    assert len(found) == 2
    assert max(stop - start for start, stop in found) <= 30 * SAMPLE_RATE_HZ


def test_options_that_leave_no_place_for_a_cut_are_refused() -> None:
    """A turn needs a quiet place with a whole turn on both sides of it."""
    with pytest.raises(ValueError, match="4 times"):
        SpeechOptions(min_turn_seconds=1, max_turn_seconds=3.9)
    with pytest.raises(ValueError, match="at least 1 s"):
        SpeechOptions(min_turn_seconds=0, max_turn_seconds=0.5)


@given(
    probability=st.lists(st.floats(0, 1, width=32), max_size=400),
    stretch=st.integers(1, 40),
    short=st.integers(0, CHUNK_SAMPLES - 1),
    pad=st.floats(0, 1),
    gap=st.floats(0, 1),
    least=st.floats(0, 0.5),
    most=st.floats(2, 5),
    seed=st.integers(0, 99),
)
def test_whatever_the_network_says_turns_are_turns(
    probability: list[float],
    stretch: int,
    short: int,
    pad: float,
    gap: float,
    least: float,
    most: float,
    seed: int,
) -> None:
    """In order, apart, within the audio, neither too short nor too long, and with all the speech.

    All the speech but that of turns which were too short.
    """
    stretched = np.repeat(np.array(probability, np.float32), stretch)
    num_samples = max(0, len(stretched) * CHUNK_SAMPLES - short)
    power = np.random.default_rng(seed).random(len(stretched), np.float32)
    options = SpeechOptions(0.5, least, gap, pad, most)
    found = find_turns(stretched, power, num_samples, options)

    ends = [0, *(sample for turn in found for sample in turn), num_samples]
    assert ends == sorted(ends)
    for turn in found:
        seconds = (turn.stop_sample - turn.start_sample) / SAMPLE_RATE_HZ
        assert seconds <= most + 1e-4
        assert seconds >= least - 1e-4
        assert isinstance(turn, Turn)
    loud = stretched >= 0.5
    covered = np.zeros(len(stretched) * CHUNK_SAMPLES + 1, bool)
    for start, stop in found:
        covered[start:stop] = True
    everything = find_turns(stretched, power, num_samples, SpeechOptions(0.5, 0, gap, 0, 1e6))
    for start, stop in everything:
        if stop - start >= round(least * SAMPLE_RATE_HZ):
            assert covered[start:stop].all()
    assert bool(everything) == bool(loud.any() and num_samples)
