"""Results as people and programs see them."""

import json

from rich.console import Console

from producer.show import as_json, results_table

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
    """The status, the code and the message."""
    failed = {"status": "failed", "error_code": "not_audio", "error": "no audio in it"}
    _, line = shown(("a.wav", failed))
    assert line.split() == ["a.wav", "failed:", "not_audio", "no", "audio", "in", "it"]


def test_brackets_are_text() -> None:
    """Names and messages with [brackets] are shown as they are, and break nothing."""
    failed = {"status": "failed", "error_code": "internal", "error": "see [red] and [/red]"}
    _, first, second = shown(("clip[bold].wav", DONE), ("[/a].wav", failed))
    assert first.startswith("clip[bold].wav ")
    assert second.startswith("[/a].wav ")
    assert "see [red] and [/red]" in second


def test_json_holds_json() -> None:
    """Fields that hold JSON are opened up; the rest is as the hash has it."""
    assert json.loads(as_json("x", {**DONE, "timeline": "[]"})) == {
        "job": "x",
        **DONE,
        "scores": {"happy": 0.75, "sad": 0.25},
        "timeline": [],
    }
    assert as_json("x", {"status": "queued"}) == '{"job": "x", "status": "queued"}'
