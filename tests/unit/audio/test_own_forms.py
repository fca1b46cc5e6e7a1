"""What a decode process may say of samples at their own rate: what it was asked for, no more."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.audio_files import ample_limits
from tests.support.resampling import NO_DIVISOR
from worker.audio.decoding import Decoding
from worker.audio.pcm import Memory
from worker.audio.protocol import Done, Misbehaved, Part
from worker.audio.room import Spool
from worker.clip import Pcm, Renditions, Samples

WINDOW = 16_000  # a second


class Halves:
    """A resampler that gives each second sample: from 32 kHz."""

    def stream(self, sample_rate_hz: int) -> "Halves":
        """Itself."""
        return self

    def push(self, samples: Pcm, *, last: bool) -> Samples:
        """Every second."""
        return samples[::2].astype(np.float32)


@pytest.fixture
def decoding(tmp_path: Path) -> Iterator[Decoding]:
    """Of one recording that may keep its own rate, and be ten seconds long."""
    made = decoding_of(tmp_path)
    yield made
    made.close()
    made.spooling.close()


def decoding_of(tmp_path: Path, *, wanted: Renditions | None = None) -> Decoding:
    """One that is asked so."""
    limits = replace(ample_limits(tmp_path), window_seconds=1, max_audio_seconds=10)
    return Decoding(limits, Spool(tmp_path, 10**9), "mix", wanted, Halves())


def filled(num_bytes: int) -> Memory:
    """Memory that a process has filled."""
    memory = Memory()
    with open(memory.fd, "wb", closefd=False) as file:
        file.write(bytes(num_bytes))
    return memory


def test_what_it_was_asked_for_is_taken(decoding: Decoding) -> None:
    """A part of int16 at 32 kHz, and the rest: twice as many bytes' worth of time fit a memory."""
    with filled(4 * WINDOW) as memory:
        assert decoding.keep(Part(40_000, 32_000, 2), memory)
        with filled(2_000) as rest:
            decoded = decoding.take(Done(1_000, 1, "", 0, 32_000, 2), rest)
    assert decoded is not None
    assert decoded.num_samples == WINDOW + 500
    assert decoded.file
    (lane,) = decoding.lanes(decoded)
    assert lane.sample_rate_hz == 16_000


@pytest.mark.parametrize(
    ("done", "num_bytes"),
    [
        (Done(1_000, 1, "", 0, NO_DIVISOR, 4), 4_000),
        (Done(1_000, 1, "", 0, 16_000, 4), 4_000),
        (Done(1_000, 1, "", 0, 0, 2), 2_000),
        (Done(1_000, 1, "", 0, 8_000, 3), 3_000),
        (Done(1_000, 1, "", 0, 8_000, 0), 0),
        (Done(1_000, 2, "", 0, 8_000, 2), 2_000),
        (Done(1_000, 1, "", 0, 8_000, 4), 2_000),
        (Done(8_001, 1, "", 0, 8_000, 2), 16_002),
        (Done(80_001, 1, "", 0, 8_000, 2), 160_002),
        (Done(1_000, 1, "", 0, 10**9, 4), 4_000),
    ],
)
def test_all_else_is_misbehaviour(decoding: Decoding, done: Done, num_bytes: int) -> None:
    """A rate that no device resamples, samples that are none, more than a window of them."""
    with filled(num_bytes) as memory, pytest.raises(Misbehaved):
        decoding.take(done, memory)


@pytest.mark.parametrize(
    "then",
    [
        Done(1_000, 1, "", 0, 32_000, 4),
        Done(1_000, 1, "", 0, 8_000, 2),
        Done(1_000, 1, "", 0),
        Done(10**6, 1, "", 0, 32_000, 2),
    ],
)
def test_a_form_does_not_change_on_the_way(decoding: Decoding, then: Done) -> None:
    """Nor is more sent than may be."""
    with filled(4 * WINDOW) as memory:
        assert decoding.keep(Part(40_000, 32_000, 2), memory)
    with filled(then.num_samples * then.sample_bytes) as memory, pytest.raises(Misbehaved):
        decoding.take(then, memory)


def test_nor_does_it_begin_at_the_rate_of_the_model(decoding: Decoding) -> None:
    """Part by part, as ever; then nothing of it is at a rate of its own."""
    with filled(4 * WINDOW) as memory:
        assert decoding.keep(Part(40_000), memory)
    with filled(4 * WINDOW) as memory, pytest.raises(Misbehaved):
        decoding.keep(Part(40_000, 32_000, 2), memory)


def test_parts_without_end_have_one(decoding: Decoding) -> None:
    """As many seconds as are allowed, at whatever rate they are told to be."""
    kept = list[bool]()
    with pytest.raises(Misbehaved, match="more audio"):
        while len(kept) < 100:
            with filled(4 * WINDOW) as memory:
                kept.append(decoding.keep(Part(10**9, 32_000, 2), memory))
    assert kept == [True] * 10


def test_it_begins_anew_but_once(decoding: Decoding) -> None:
    """For a file in several forms; and not where no rate of its own was asked for."""
    assert decoding.request(1).own_rate
    assert decoding.begins_anew(0)
    assert not decoding.request(1).own_rate
    assert not decoding.begins_anew(0)
    with filled(4_000) as memory, pytest.raises(Misbehaved):
        decoding.take(Done(1_000, 1, "", 0, 8_000, 4), memory)


def test_where_something_is_rendered_none_is_asked_for(tmp_path: Path) -> None:
    """Peaks and previews are made of samples at the model's rate."""
    assert not decoding_of(tmp_path, wanted=Renditions(frozenset())).request(1).own_rate
