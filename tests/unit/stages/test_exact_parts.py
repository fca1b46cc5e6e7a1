"""A segment is the file one would cut, a channel the mono file, a hop the mean of its frames.

Whatever else the job asks for, and whatever it shares its tapes with.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage.errors import InvalidJob
from storage.wire.messages import Job, Want
from storage.wire.parts import Parts, SegmentAsked
from tests.support.stages import Stages, recording
from tests.unit.model.parity import loaded, noise
from worker.clip import Samples
from worker.engine.engine import Engine
from worker.engine.prediction import Prediction

TOLERANCE = 1e-5
SAMPLES = 40_000
TIMELINE = frozenset({Want.SCORES, Want.TIMELINE})


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """Windows of 1 s and tapes of four, so that everything is cut, and shares."""
    model = loaded("tiny", tmp_path_factory.mktemp("model"))
    return Stages(Engine(model, tape_slots=320, window_seconds=1.0), window_seconds=1.0)


def lane(seed: int, samples: int = SAMPLES) -> Samples:
    """Noise whose level changes, so that it matters what a mean and a scale are of."""
    return noise(samples, seed) * np.linspace(0.1, 2, samples, dtype=np.float32)


def alone(stages: Stages, samples: Samples, **parts: object) -> Prediction:
    """What a mono file of these samples gives, by itself."""
    job = Job("alone", "a.wav", parts=Parts(**parts))  # type: ignore[arg-type]  # as they are given
    (classified,) = stages((job, recording([samples], job)))
    return classified.prediction


def assert_same(one: Prediction, other: Prediction) -> None:
    """Scores within the tolerance, and the embedding within what float32 sums leave."""
    assert list(one.scores) == list(other.scores)
    assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), abs=TOLERANCE)
    np.testing.assert_allclose(one.embedding, other.embedding, atol=1e-4)


def segment_of(cut: tuple[int, int], **more: object) -> SegmentAsked:
    """The segment of samples [start, stop)."""
    return SegmentAsked(cut[0] / 16_000, cut[1] / 16_000, **more)  # type: ignore[arg-type]


CUTS = st.tuples(st.integers(0, SAMPLES - 400), st.integers(400, SAMPLES)).map(
    lambda pair: (pair[0], min(SAMPLES, pair[0] + pair[1]))
)


@settings(max_examples=25, deadline=None)
@given(st.lists(CUTS, min_size=1, max_size=5), st.integers(0, 4))
def test_a_segment_is_the_file_one_would_cut(
    stages: Stages, cuts: list[tuple[int, int]], strangers: int
) -> None:
    """Overlapping or not, and also on tapes with other jobs."""
    whole = lane(1)
    job = Job("x", "a.wav", parts=Parts(segments=tuple(map(segment_of, cuts))))
    others = [Job(f"stranger-{seed}", "b.wav") for seed in range(strangers)]
    asked = [(other, recording([lane(7 + i, 9_000)], other)) for i, other in enumerate(others)]
    classified = stages((job, recording([whole], job)), *asked)[0]
    assert classified.top.cuts is not None
    for (start, stop), cut in zip(cuts, classified.top.cuts, strict=True):
        assert_same(cut.prediction, alone(stages, whole[start:stop]))


@pytest.mark.parametrize("strided", [False, True])
def test_each_channel_is_its_mono_file(stages: Stages, strided: bool) -> None:
    """As lanes lie side by side in memory, too; the top is what it is without channels."""
    lanes = [lane(seed) for seed in range(3)]
    if strided:
        side_by_side = np.ascontiguousarray(np.stack(lanes).T)  # (samples, lanes)
        lanes = [side_by_side[:, number] for number in range(3)]
    job = Job("x", "a.wav", parts=Parts(channel="each"))
    (classified,) = stages((job, recording(lanes, job)))
    assert classified.channels is not None
    assert [view.channel for view in classified.channels] == [0, 1]
    assert_same(classified.prediction, alone(stages, lanes[0]))
    for view, samples in zip(classified.channels, lanes[1:], strict=True):
        assert_same(view.prediction, alone(stages, samples))


def test_a_segment_of_a_channel_is_cut_of_that(stages: Stages) -> None:
    """Whether the job asks for each channel or not; without one of its own it is of the job's."""
    mix, left, right = (lane(seed) for seed in range(3))
    first, second, third = (1_000, 20_000), (8_000, 30_000), (5_000, 40_000)
    segments = (segment_of(first), segment_of(second, channel=1), segment_of(third, channel=0))
    for channel, own in {"mix": mix, "each": mix, "1": right}.items():
        job = Job("x", "a.wav", parts=Parts(channel=channel, segments=segments))
        (classified,) = stages((job, recording([mix, left, right], job)))
        assert classified.top.cuts is not None
        expected = [own[slice(*first)], right[slice(*second)], left[slice(*third)]]
        for cut, samples in zip(classified.top.cuts, expected, strict=True):
            assert_same(cut.prediction, alone(stages, samples))
        if channel == "each":
            assert classified.channels is not None
            counted = [[cut.asked for cut in view.cuts or ()] for view in classified.channels]
            assert counted == [[segments[0], segments[2]], [segments[0], segments[1]]]
            assert_same(
                (classified.channels[1].cuts or ())[0].prediction,
                alone(stages, right[slice(*first)]),
            )
        else:
            assert classified.channels is None


def test_with_segments_the_top_is_all_of_them_together(stages: Stages) -> None:
    """Every frame of them counts alike: the logits are the mean, weighted by frames."""
    whole, cuts = lane(3), [(0, 16_000), (20_000, 24_000)]
    job = Job("x", "a.wav", parts=Parts(segments=tuple(map(segment_of, cuts))))
    (classified,) = stages((job, recording([whole], job)))
    each = [alone(stages, whole[start:stop]).embedding for start, stop in cuts]
    frames = [(stop - start - 400) // 320 + 1 for start, stop in cuts]
    mean = np.average(each, axis=0, weights=frames).astype(np.float32)
    expected = stages.engine.scores(mean)
    assert list(classified.prediction.scores.values()) == pytest.approx(expected, abs=TOLERANCE)


def test_without_any_segment_the_whole_counts(stages: Stages) -> None:
    """A recognizer may have heard nobody: there is a result all the same."""
    job = Job("x", "a.wav", parts=Parts(segments=()))
    (classified,) = stages((job, recording([lane(3)], job)))
    assert classified.top.cuts == ()
    assert_same(classified.prediction, alone(stages, lane(3)))


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 3.0), st.integers(400, SAMPLES), st.booleans())
def test_a_hop_is_the_mean_of_its_frames(
    stages: Stages, hop_s: float, length: int, frames_too: bool
) -> None:
    """Frames [round(50 k h), round(50 (k + 1) h)), across windows; together they are the clip."""
    samples = lane(4)[:length]
    want = TIMELINE | ({Want.FRAMES} if frames_too else set())
    job = Job("x", "a.wav", want=want, parts=Parts(hop_s=hop_s))
    framed = Job("y", "a.wav", want=frozenset({Want.FRAMES}))
    classified, reference = stages(
        (job, recording([samples], job)), (framed, recording([samples], framed))
    )
    frames = reference.prediction.frames
    assert frames is not None
    edges = [round(50 * k * hop_s) for k in range(len(frames) + 1)]
    edges = [edge for edge in edges if edge < len(frames)] + [len(frames)]
    timeline = classified.prediction.timeline
    assert [part.start_seconds for part in timeline] == pytest.approx([e / 50 for e in edges[:-1]])
    assert [part.stop_seconds for part in timeline] == pytest.approx([e / 50 for e in edges[1:]])
    weighted: NDArray[np.float64] = np.zeros(len(stages.engine.model.config.labels))
    for part, start, stop in zip(timeline, edges, edges[1:], strict=False):
        exact = stages.engine.scores(frames[start:stop].mean(axis=0))
        assert list(part.scores.values()) == pytest.approx(exact, abs=TOLERANCE)
        weighted += (stop - start) * np.log(list(part.scores.values()))
    odds = np.exp(weighted / len(frames))
    scores = list(classified.prediction.scores.values())
    assert scores == pytest.approx(odds / odds.sum(), abs=TOLERANCE)
    kept = classified.prediction.frames
    assert (kept is None) != frames_too
    if kept is not None:
        np.testing.assert_allclose(kept, frames, atol=1e-4)


def test_the_timeline_of_a_segment_tells_seconds_of_the_recording(stages: Stages) -> None:
    """Hops begin anew at its start."""
    segments = (segment_of((8_000, 24_000)),)
    job = Job("x", "a.wav", want=TIMELINE, parts=Parts(segments=segments, hop_s=0.5))
    (classified,) = stages((job, recording([lane(5)], job)))
    assert classified.top.cuts is not None
    timeline = classified.top.cuts[0].prediction.timeline
    told = [(part.start_seconds, part.stop_seconds) for part in timeline]
    assert told == [(0.5, 1.0), (1.0, 1.48)]


def test_other_labels_are_masked_before_the_softmax(stages: Stages) -> None:
    """The scores of those that count keep their proportions, and add up to 1."""
    every = alone(stages, lane(6)).scores
    kept = tuple(every)[3:5]
    some = alone(stages, lane(6), labels=(kept[1], kept[0]))
    assert tuple(some.scores) == kept  # in the order of the model
    together = sum(every[label] for label in kept)
    assert some.scores == pytest.approx({k: every[k] / together for k in kept}, abs=TOLERANCE)
    assert some.label in kept
    with pytest.raises(InvalidJob, match="'labels': 'furious' is not one of"):
        alone(stages, lane(6), labels=("furious",))


@pytest.mark.parametrize(
    ("segment", "says"),
    [
        ({"start_s": 0, "end_s": 3.001}, "item 1, 0 to 3.001 s: ends after the recording"),
        ({"start_s": 2.49, "end_s": 3}, "item 1, 2.49 to 3 s: has less than 25 ms"),
        ({"start_s": 1, "end_s": 1.0249}, "item 1, 1 to 1.0249 s: has less than 25 ms"),
        ({"start_s": 0, "end_s": 9_000}, "item 1, 0 to 9000 s: ends after the recording"),
        ({"start_s": 0, "end_s": 1e308}, "item 1, 0 to 1e\\+308 s: ends after the recording"),
        ({"start_s": 1e308, "end_s": 1.1e308}, "item 1, 1e\\+308 to 1.1e\\+308 s: ends after"),
        ({"start_s": 0, "end_s": 1, "channel": 2}, "item 1, .* 2 channels, .* no channel 2"),
    ],
)
def test_a_segment_that_cannot_be_is_named(
    stages: Stages, segment: dict[str, float], says: str
) -> None:
    """And one that ends less than half a second after the recording is cut there."""
    good = {"start_s": 2, "end_s": 3, "speaker": "A"}
    good_alone = Job("x", "a.wav", parts=Parts(segments=(SegmentAsked(**good),)))  # type: ignore[arg-type]
    (classified,) = stages((good_alone, recording([lane(1)], good_alone)))
    assert classified.top.cuts is not None
    assert classified.top.cuts[0].end_seconds == 2.5
    both = (SegmentAsked(**good), SegmentAsked(**segment))  # type: ignore[arg-type]
    for field, segments_from in (("segments", None), ("segments_from", "turns.json")):
        parts = Parts(segments=both, segments_from=segments_from)
        job = Job("x", "a.wav", parts=parts)
        with pytest.raises(InvalidJob, match=f"field '{field}': {says}"):
            stages((job, recording([lane(1)] * 3, job)))


def test_segments_together_have_an_end(stages: Stages) -> None:
    """They may overlap: a short file is no license for days of work."""
    job = Job("x", "a.wav", parts=Parts(segments=(SegmentAsked(0, 2.5),) * 3_000))
    with pytest.raises(InvalidJob, match="7500 s of audio together"):
        stages((job, recording([lane(1)], job)))


def test_silence_is_said_of_what_is_silent(stages: Stages) -> None:
    """No sample above -70 dBFS, in the mix, a channel, or a segment."""
    quiet, loud = np.full(SAMPLES, 3e-4, np.float32), lane(2)
    quiet[::2] *= -1
    click = quiet.copy()
    click[17_000] = 3.3e-4
    job = Job("x", "a.wav", parts=Parts(channel="each"))
    (classified,) = stages((job, recording([quiet, loud, click], job)))
    assert classified.top.silent
    assert [view.silent for view in classified.channels or ()] == [False, False]
    segments = (segment_of((0, 16_000)), segment_of((16_000, 32_000)))
    job = Job("x", "a.wav", parts=Parts(segments=segments))
    (classified,) = stages((job, recording([click], job)))
    assert [cut.silent for cut in classified.top.cuts or ()] == [True, False]
    assert not classified.top.silent


def test_speech_is_cut_where_it_is_found(stages: Stages) -> None:
    """Each turn is a clip of its own, of the mix and of each channel; none makes no result."""
    lanes = [lane(seed) for seed in range(3)]
    job = Job("x", "a.wav", parts=Parts(channel="each", speech=True))
    turns = [[(0, 16_000), (20_000, 20_399)], [(1_000, 9_000)], []]
    heard = replace(recording(lanes, job), speech=tuple(turns))
    (classified,) = stages((job, heard))
    assert classified.channels is not None
    views = [classified.top, *classified.channels]
    assert [len(view.cuts or ()) for view in views] == [1, 1, 0]  # one was less than a frame
    for view, samples, found in zip(views[:2], lanes[:2], turns[:2], strict=True):
        assert view.cuts is not None
        assert_same(view.cuts[0].prediction, alone(stages, samples[slice(*found[0])]))
    assert_same(views[2].prediction, alone(stages, lanes[2]))
    assert all(view.searched for view in views)
