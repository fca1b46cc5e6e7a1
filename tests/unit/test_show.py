"""Results as people and programs see them."""

import json

from rich.console import Console

from producer.show import as_json, errors, results_table

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
