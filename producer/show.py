"""Results for people: tables and lines. Programs ask for `--json`."""

import json
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

STAGES = ("queue_ms", "fetch_ms", "decode_ms", "normalize_ms", "infer_ms")


# Result fields in the order that people read them; what is not here follows.
ORDER = (
    *("job", "name", "key", "status", "label", "score", "scores", "duration_s", "warning"),
    *("error_code", "error", "embedding_key", "frames_key", "timeline"),
    *("model", "model_revision", "device", "dtype", "attempts", "deliveries", "run", "worker"),
    *STAGES,
    *("batch_clips", "finished_at_ms"),
)
_AS_JSON = ("scores", "timeline")
_NUMBERS = {
    *("score", "duration_s", "attempts", "deliveries", "run", "batch_clips", "finished_at_ms"),
    *STAGES,
}


def results_table(rows: Sequence[tuple[str, Mapping[str, str]]], *, first: str = "clip") -> Table:
    """Label, score, duration and stage times of each named result, or its error code."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("seconds", justify="right")
    for stage in STAGES:
        table.add_column(stage.replace("_ms", " ms"), justify="right")
    table.add_column("warning / error")
    for name, result in rows:
        clip = Text(name)  # not markup: a name may well hold [brackets]
        if result.get("status") == "done":
            table.add_row(
                clip,
                result["label"],
                f"{float(result['score']):.3f}",
                result["duration_s"],
                *(result.get(stage, "") for stage in STAGES),
                result.get("warning", ""),
            )
        else:
            table.add_row(clip, result.get("status", ""), *[""] * (len(STAGES) + 2), _code(result))
    return table


def errors(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """What to tell of each result that is not done: too long for a table."""
    return [
        f"{name}: {_code(result)}: {result['error']}" for name, result in rows if "error" in result
    ]


def in_order(result: Mapping[str, str]) -> dict[str, str]:
    """The fields of a result, the important ones first."""
    known = [name for name in ORDER if name in result]
    return {name: result[name] for name in [*known, *sorted(set(result) - set(known))]}


def as_json(job_id: str, result: Mapping[str, str]) -> str:
    """One result as one line of JSON: numbers as numbers, fields that hold JSON opened up."""
    opened: dict[str, object] = dict(in_order({"job": job_id, **result}))
    for name, value in result.items():
        if name in _AS_JSON:
            opened[name] = json.loads(value)
        elif name in _NUMBERS:
            opened[name] = float(value) if "." in value or "e" in value else int(value)
    return json.dumps(opened, ensure_ascii=False)


def _code(result: Mapping[str, str]) -> str:
    return result.get("error_code", "")
