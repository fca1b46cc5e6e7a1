"""Typed results and events, of what workers write and of what others may."""

import json
from typing import Any

import pytest

from producer.results import Channel, Event, Fault, Moment, Result, Segment, UnreadableResult
from storage.wire.messages import Status

SCORES = {"happy": 0.75, "sad": 0.25}
MOMENT = {"start_s": 0.0, "end_s": 1.5, "scores": SCORES}
SEGMENT = {
    "start_s": 0.5, "end_s": 3, "speaker": "A", "label": "happy", "score": 0.75, "scores": SCORES,
}  # fmt: skip
CHANNEL = {"channel": 1, "label": "sad", "score": 0.25, "scores": SCORES, "warning": "silent"}
FIELDS = {
    "status": "done",
    "run": "2",
    "batch": "monday",
    "label": "happy",
    "score": "0.75",
    "scores": json.dumps(SCORES),
    "duration_s": "3.32",
    "warning": "truncated,silent",
    "timeline": json.dumps([MOMENT]),
    "segments": json.dumps([SEGMENT]),
    "channels": json.dumps([{**CHANNEL, "segments": [SEGMENT], "timeline": [MOMENT]}]),
    "embedding_key": "emostream/x.embedding.npy",
    "attempts": "3",
    "queue_ms": "2.4",
    "infer_ms": "31.4",
    "finished_at_ms": "1795338359601",
    "hue": "blue",
}


def test_a_result_is_typed() -> None:
    """As docs/wire.md describes its fields."""
    result = Result("x", FIELDS)
    moment = Moment(0.0, 1.5, SCORES)
    segment = Segment(0.5, 3.0, "happy", 0.75, SCORES, speaker="A")
    assert (result.status, result.ended, result.done, result.run) == (Status.DONE, True, True, 2)
    assert (result.batch, result.label, result.score, result.scores) == (
        "monday", "happy", 0.75, SCORES,
    )  # fmt: skip
    assert (result.duration_s, result.attempts) == (3.32, 3)
    assert result.warnings == ("truncated", "silent")
    assert result.timeline == (moment,)
    assert result.segments == (segment,)
    assert result.channels == (Channel(1, "sad", 0.25, SCORES, "silent", (moment,), (segment,)),)
    assert result.objects == {"embedding": "emostream/x.embedding.npy"}
    assert result.stage_ms == {"queue": 2.4, "infer": 31.4}
    assert result.finished_at_ms == 1795338359601
    assert result.error is None


def test_a_result_that_is_not_there_yet_is_empty() -> None:
    """And one that failed says why."""
    queued = Result("x", {"status": "queued"})
    assert (queued.ended, queued.label, queued.score, queued.scores) == (False, None, None, {})
    assert (queued.segments, queued.channels, queued.timeline, queued.warnings) == ((), (), (), ())
    failed = Result("x", {"status": "failed", "error_code": "not_audio", "error": "it is not"})
    assert failed.error == Fault("not_audio", "it is not")


@pytest.mark.parametrize(
    ("field", "value", "ask"),
    [
        ("status", "splendid", "status"),
        ("score", "high", "score"),
        ("scores", "[1]", "scores"),
        ("scores", "{", "scores"),
        ("segments", '[{"start_s": "soon"}]', "segments"),
        ("channels", '{"channel": 1}', "channels"),
        ("run", "1e3", "run"),
    ],
)
def test_what_cannot_be_understood_is_named(field: str, value: str, ask: str) -> None:
    """By its field, when it is asked for; the others stay readable."""
    result = Result("x", {**FIELDS, field: value})
    with pytest.raises(UnreadableResult, match=f"^job x: field '{field}': "):
        getattr(result, ask)
    assert result.label == "happy"


EVENT = {"job": "x", "status": "done", "run": "1", "finished_at_ms": "5", "label": "sad"}


def test_an_event_is_typed() -> None:
    """With what it has."""
    event = Event.of("1-2", {**EVENT, "score": "0.5", "batch": "b"})
    assert event == Event("1-2", "x", Status.DONE, 1, 5, label="sad", score=0.5, batch="b")


@pytest.mark.parametrize(
    "change",
    [{"status": "running"}, {"status": "?"}, {"run": ""}, {"score": "?"}, {"finished_at_ms": "x"}],
)
def test_an_entry_that_no_worker_wrote_is_no_event(change: dict[str, Any]) -> None:
    """Whatever is wrong with it."""
    assert Event.of("1-2", {**EVENT, **change}) is None
