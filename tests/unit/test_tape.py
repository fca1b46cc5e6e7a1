"""The layout of a tape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.parity import clip_of, noise, segments_of, tape_of
from worker.clip import frame_samples
from worker.tape import Segment, TapeLayout, num_fitting

FRAMES = st.lists(st.integers(1, 50), min_size=1, max_size=8).map(tuple)


def segment_of(frames: int, seed: int = 0) -> Segment:
    """A segment of a number of frames."""
    return segments_of(clip_of(noise(frame_samples(frames), seed)))[0]


@given(
    frames=FRAMES, extra_tokens=st.integers(0, 12), wider=st.integers(0, 5), tail=st.integers(0, 9)
)
def test_every_slot_has_one_role(
    frames: tuple[int, ...], extra_tokens: int, wider: int, tail: int
) -> None:
    """A slot is a frame, an extra token or nobody's; a segment's tokens stand before its frames."""
    layout = TapeLayout(
        gap=extra_tokens + wider, extra_tokens=extra_tokens, frames=frames, tail=tail
    )
    nobody = -1 - extra_tokens
    expected: list[int] = []
    for count in frames:
        expected += [nobody] * wider + [-1 - i for i in range(extra_tokens)] + [0] * count
    assert layout.roles().tolist() == expected + [nobody] * tail
    assert len(expected) == layout.used_slots == layout.slots - tail


@given(frames=FRAMES)
def test_neighbours_are_a_gap_apart(frames: tuple[int, ...]) -> None:
    """Before each segment's frames lies a whole gap, before the first one too."""
    layout = TapeLayout(gap=10, extra_tokens=10, frames=frames)
    stops = [0, *(run.stop for run in layout.frame_slots())]
    starts = [run.start for run in layout.frame_slots()]
    assert [start - stop for start, stop in zip(starts, stops, strict=False)] == [10] * len(frames)
    assert stops[-1] == layout.slots


def test_attention_sees_the_extra_tokens_right_before_the_frames() -> None:
    """Where the gap is wider than the extra tokens, they take its last slots."""
    layout = TapeLayout(gap=12, extra_tokens=10, frames=(5, 7))
    assert layout.attention_slots() == [slice(2, 17), slice(19, 36)]
    assert layout.roles()[:12].tolist() == [-11, -11, *range(-1, -11, -1)]


KINDS = st.sampled_from([np.int16, np.float32])


@given(kinds=st.tuples(KINDS, KINDS, KINDS), gap=st.integers(1, 12), tail=st.integers(0, 5))
def test_samples_are_written_at_320_a_slot_with_silence_between(
    kinds: tuple[type[np.int16 | np.float32], ...], gap: int, tail: int
) -> None:
    """Each window's normalized samples begin at its first frame's slot.

    What frames may see between them is zero. Integers give what they give as floats, to the last
    bit, whatever they are beside.
    """
    frames = (3, 1, 2)
    pcm = [(8_000 * noise(frame_samples(n), seed=n)).astype(np.int16) for n in frames]
    as_floats = [clip_of((each / np.float32(32_768)).astype(np.float32)) for each in pcm]
    given_clips = [
        clip_of(each if kind is np.int16 else floats.samples)
        for each, kind, floats in zip(pcm, kinds, as_floats, strict=True)
    ]
    layout = TapeLayout(gap=gap, extra_tokens=1, frames=frames, tail=tail)
    tape = tape_of([segment for clip in given_clips for segment in segments_of(clip)], layout)
    seen = np.zeros(layout.num_samples, np.bool_)
    seen[320 * (layout.used_slots + 1) :] = True
    for clip, slots in zip(as_floats, layout.frame_slots(), strict=True):
        first = 320 * slots.start
        mine = tape[first : first + len(clip.samples)]
        exact = (clip.samples - np.float32(clip.mean)) * np.float32(clip.scale)
        np.testing.assert_array_equal(mine, exact)
        seen[first - 320 * (gap - 1) : first] = True
    assert not tape[seen].any()
    assert np.isfinite(tape).all()


def test_segments_of_another_number_than_the_layout_are_refused() -> None:
    """A layout for two segments does not take one."""
    layout = TapeLayout(gap=10, extra_tokens=10, frames=(3, 3))
    with pytest.raises(ValueError, match="longer"):
        tape_of([segment_of(3)], layout)


@given(frames=FRAMES, tape_slots=st.integers(11, 200))
def test_a_tape_takes_the_first_segments_that_fit(frames: tuple[int, ...], tape_slots: int) -> None:
    """As many as fit and no more, in order; one that is too long for any tape goes alone."""
    segments = [segment_of(count) for count in frames]
    count = num_fitting(segments, gap=10, tape_slots=tape_slots)
    used = [10 + n for n in frames]
    assert count == 1 or sum(used[:count]) <= tape_slots
    assert count == len(segments) or sum(used[: count + 1]) > tape_slots
