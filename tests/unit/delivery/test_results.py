"""What a result hash says of channels, segments and timelines."""

import json
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.errors import StorageUnavailable
from storage.queue.entries import Begun, Delivery, Verdict
from storage.wire.messages import LISTS, OBJECTS, Job, Lane, Want
from storage.wire.parts import SegmentAsked
from tests.support.settle_desk import PREDICTION, SCORES, Outputs
from tests.support.worker_process import ROOT
from worker.clip import Renditions
from worker.delivery.results import MOST_FIELD_BYTES, Results
from worker.engine.prediction import Timeline
from worker.pipeline.task import Task
from worker.stages.infer import Classified, ClassifiedCut, ClassifiedView
from worker.warning import AudioWarning

TIMELINE = [
    {"start_s": 0.0, "end_s": 1.2, "scores": SCORES},
    {"start_s": 1.2, "end_s": 2.5, "scores": {"happy": 0.123457, "sad": 0.876543}},
]
TOLD = {"label": "happy", "score": 0.75, "scores": SCORES}
WHOLE = ClassifiedView(PREDICTION, silent=False)


def cut(start: float, end: float, asked: SegmentAsked | None, *, silent: bool = False) -> Any:
    """A segment, classified."""
    return ClassifiedCut(start, end, PREDICTION, silent, asked)


def fields(
    top: ClassifiedView,
    channels: tuple[ClassifiedView, ...] | None = None,
    *,
    want: frozenset[Want] = frozenset(),
    outputs: Outputs | None = None,
    run: int = 1,
    renditions: Renditions | None = None,
) -> dict[str, str]:
    """The fields of a result."""
    results = Results(
        (outputs or Outputs()).put, output_prefix="out/", describe={}, untrained=False
    )
    ticket = Begun(Delivery(Lane.NORMAL, "1-0", 1, ()), Verdict.RUN, "x", run=run)
    value = Classified(top, 2.5, channels=channels, renditions=renditions)
    return results.fields(Task(Job("x", "a.wav", want=want), value=value, ticket=ticket))


def test_a_segment_says_what_it_was_asked_with() -> None:
    """Seconds, speaker and channel are given back, with what was found."""
    first = SegmentAsked(0.5, 1.5, "Anna", 1)
    told = fields(replace(WHOLE, cuts=(cut(0.5, 1.5, first), cut(2, 2.4567, None, silent=True))))
    assert json.loads(told["segments"]) == [
        {"start_s": 0.5, "end_s": 1.5, "speaker": "Anna", "channel": 1, **TOLD},
        {"start_s": 2, "end_s": 2.457, **TOLD, "warning": "silent"},
    ]
    assert told["label"] == "happy"
    assert "channels" not in told
    assert "segments_found" not in told


def test_the_times_of_a_segment_are_those_that_were_listed() -> None:
    """To the last digit, so that a client finds it again; only what was found is rounded."""
    asked = SegmentAsked(0.12345678, 1.98765432)
    told = fields(replace(WHOLE, cuts=(cut(asked.start_s, asked.end_s, asked),)))
    (segment,) = json.loads(told["segments"])
    assert (segment["start_s"], segment["end_s"]) == (0.12345678, 1.98765432)


def test_channels_are_told_as_the_whole_is() -> None:
    """Each with its own timeline, segments and warning; the top has those of the mix."""
    channels = (
        ClassifiedView(PREDICTION, silent=True, channel=0),
        ClassifiedView(PREDICTION, False, (cut(0, 1, None),), 1, searched=True),
        ClassifiedView(PREDICTION, True, (), 2, searched=True),
    )
    told = fields(WHOLE, channels, want=frozenset({Want.TIMELINE}))
    assert json.loads(told["timeline"]) == TIMELINE
    assert json.loads(told["channels"]) == [
        {"channel": 0, **TOLD, "timeline": TIMELINE, "warning": "silent"},
        {
            "channel": 1,
            **TOLD,
            "segments": [{"start_s": 0, "end_s": 1, **TOLD, "timeline": TIMELINE}],
            "segments_found": 1,
            "speech_s": 1.0,
        },
        {
            "channel": 2,
            **TOLD,
            "timeline": TIMELINE,
            "segments": [],
            "segments_found": 0,
            "speech_s": 0,
            "warning": "silent,no_speech",
        },
    ]
    assert "warning" not in told


def test_speech_is_counted_at_the_top() -> None:
    """And where there is none, that is said: the result is of the whole recording then."""
    some = fields(replace(WHOLE, cuts=(cut(0, 1, None), cut(2, 2.5, None)), searched=True))
    assert (some["segments_found"], some["speech_s"]) == ("2", "1.5")
    none = fields(replace(WHOLE, cuts=(), searched=True, silent=True))
    assert (none["segments_found"], none["segments"]) == ("0", "[]")
    assert none["warning"] == "silent,no_speech"


@pytest.mark.parametrize("run", [1, 2])
def test_a_long_list_goes_to_the_output_store(run: int) -> None:
    """A field holds up to 64 KiB; the object says the same, and its key is that of the run."""
    outputs = Outputs()
    one = len(json.dumps({"start_s": 0, "end_s": 1, **TOLD}, separators=(",", ":"))) + 1
    most = (MOST_FIELD_BYTES - 1) // one
    fitting = fields(replace(WHOLE, cuts=(cut(0, 1, None),) * most), outputs=outputs, run=run)
    assert outputs.objects == {}
    more = fields(replace(WHOLE, cuts=(cut(0, 1, None),) * (most + 1)), outputs=outputs, run=run)
    assert "segments" not in more
    key = more["segments_key"]
    assert key == ("out/x.segments.json" if run == 1 else "out/x.segments.2.json")
    assert json.loads(outputs.objects[key]) == [
        *json.loads(fitting["segments"]),
        {"start_s": 0, "end_s": 1, **TOLD},
    ]


def test_a_list_that_cannot_be_stored_is_no_result() -> None:
    """Then the job is tried again, as with any output."""
    outputs = Outputs()
    outputs.error = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable):
        fields(replace(WHOLE, cuts=(cut(0, 1, None),) * 2_000), outputs=outputs)
    for want in (Want.PEAKS, Want.PREVIEW):
        with pytest.raises(StorageUnavailable):
            fields(WHOLE, outputs=outputs, renditions=Renditions(frozenset({want})))


@pytest.mark.parametrize("run", [1, 2])
def test_peaks_and_preview_are_objects_that_fields_name(run: int) -> None:
    """Only what was wanted; from a second run on under keys of that run."""
    outputs = Outputs()
    made = Renditions(frozenset({Want.PEAKS}), peaks=b"peaks", preview=b"nobody asked")
    told = fields(WHOLE, outputs=outputs, renditions=made, run=run)
    peaks_key = "out/x.peaks.dat" if run == 1 else "out/x.peaks.2.dat"
    assert told["peaks_key"] == peaks_key
    assert "preview_key" not in told
    assert outputs.objects == {peaks_key: b"peaks"}
    made = Renditions(frozenset({Want.PREVIEW}), preview=memoryview(b"preview"))
    told = fields(WHOLE, outputs=outputs, renditions=made)
    assert told["preview_key"] == "out/x.preview.mp3"
    assert "peaks_key" not in told
    assert outputs.objects["out/x.preview.mp3"] == b"preview"
    assert not {"peaks_key", "preview_key"} & fields(WHOLE, outputs=outputs).keys()


def test_what_may_be_an_object_is_known_to_all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is wanted, and however long: they find a key for each of those, and no other."""
    monkeypatch.setattr("worker.delivery.results.MOST_FIELD_BYTES", 0)
    cuts = replace(WHOLE, cuts=(cut(0, 1, None),))
    made = Renditions(frozenset({Want.PEAKS, Want.PREVIEW}), peaks=b"peaks", preview=b"preview")
    found = {
        name.removesuffix("_key")
        for top in (WHOLE, cuts)
        for name in fields(top, (WHOLE,), want=frozenset(Want), renditions=made)
        if name.endswith("_key")
    }
    assert found == set(OBJECTS)
    assert {name for name in found if name not in list(Want)} <= set(LISTS) <= found


def test_hours_of_a_timeline_are_told_in_the_memory_of_their_text() -> None:
    """Items of 0.1 s, of a call with both channels: they are made one by one."""
    edges = np.arange(0, 50_001, 5)
    scores = np.tile(np.array([0.75, 0.25], np.float32), (len(edges) - 1, 1))
    frames = np.stack([edges[:-1], edges[1:]], axis=1)
    timeline = Timeline(frames, scores, ("happy", "sad"))
    view = replace(WHOLE, prediction=replace(PREDICTION, timeline=timeline))
    outputs = Outputs()
    tracemalloc.start()
    try:
        fields(view, (view, view), want=frozenset({Want.TIMELINE}), outputs=outputs)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(json.loads(outputs.objects["out/x.timeline.json"])) == 10_000
    assert most_bytes < 3 * sum(map(len, outputs.objects.values()))


def test_the_page_lists_the_warnings() -> None:
    """docs/wire.md has each, in the order of telling."""
    section = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8").split("### Warnings\n")[1]
    listed = re.findall(r"^\| `(\w+)` \|", section.split("\n## ")[0], re.MULTILINE)
    assert listed == list(AudioWarning)
