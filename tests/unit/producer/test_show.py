"""Results as people and programs see them."""

import json

import pytest
from rich.console import Console

from producer.show import age, aligned, as_json, errors, results_table
from producer.show_lanes import overview
from storage.queue.lanes import Consumer, LaneState, Overview
from storage.wire.messages import Lane

DONE = {
    "status": "done",
    "label": "happy",
    "score": "0.75",
    "scores": '{"happy":0.75,"sad":0.25}',
    "duration_s": "2.5",
    "fetch_ms": "12.5",
    "warning": "truncated",
}


def shown(*rows: tuple[str, dict[str, str]]) -> list[str]:
    """The lines of the table."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results_table(rows))
    return capture.get().splitlines()


def test_a_result_is_one_line() -> None:
    """Name, label, score, seconds, stage times and warning."""
    _, line = shown(("a.wav", DONE))
    assert line.split() == ["a.wav", "happy", "0.750", "2.5", "12.5", "truncated"]


def test_an_error_is_in_its_line() -> None:
    """Status and code; the message, too long for a table, has a line of its own."""
    failed = {"status": "failed", "error_code": "not_audio", "error": "no audio in it"}
    _, line = shown(("a.wav", failed))
    assert line.split() == ["a.wav", "failed", "not_audio"]
    assert errors([("a.wav", failed), ("b.wav", DONE)]) == ["a.wav: not_audio: no audio in it"]


def test_brackets_are_text() -> None:
    """Names with [brackets] are shown as they are, and break nothing."""
    failed = {"status": "failed", "error_code": "internal", "error": "see above"}
    _, first, second = shown(("clip[bold].wav", DONE), ("[/a].wav", failed))
    assert first.startswith("clip[bold].wav ")
    assert second.startswith("[/a].wav ")


def test_json_holds_json() -> None:
    """Fields that hold JSON are opened up, numbers are numbers, and the best comes first."""
    line = as_json("x", {"run": "2", **DONE, "timeline": "[]", "colour": "red"})
    assert json.loads(line) == {
        "job": "x",
        "status": "done",
        "label": "happy",
        "score": 0.75,
        "scores": {"happy": 0.75, "sad": 0.25},
        "duration_s": 2.5,
        "fetch_ms": 12.5,
        "run": 2,
        "warning": "truncated",
        "timeline": [],
        "colour": "red",
    }
    assert line.startswith('{"job": "x", "status": "done", "label": "happy"')
    assert as_json("x", {"status": "queued"}) == '{"job": "x", "status": "queued"}'


def test_names_and_values_are_aligned() -> None:
    """What anyone may have written cannot steer the terminal."""
    assert aligned({"a": "1", "\tlong": "é"}) == ["a         1", "\\x09long  é"]
    assert aligned({}) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h 0m")),
        *((86_399, "23h 59m"), (86_400, "1d 0h"), (1e6, "11d 13h")),
    ],
)
def test_an_age_is_as_exact_as_people_need(seconds: float | None, text: str) -> None:
    """Two units at most."""
    assert age(seconds) == text


def test_an_estimate_is_marked_and_a_worker_is_one_line() -> None:
    """The totals are counted; a worker is as silent as the lane that heard of it last."""
    lanes = [
        LaneState(lane, 1, 2, 3, 4, 60, None, [Consumer("w", 2, silent)])
        for lane, silent in zip(Lane, (5.0, 600.0, 600.0), strict=True)
    ]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(
            overview(Overview(lanes, 9, 13, delayed_estimated=False, dead_estimated=True))
        )
    rows = [line.split() for line in capture.get().splitlines()]
    assert rows[1] == ["high", "1", "2", "3", "~4", "1m", "-"]
    assert rows[4] == ["all", "3", "6", "9", "13", "1m", "-"]
    assert rows[-1] == ["w", "6", "5s"]
