"""Results for people: tables and lines. Programs ask for `--json`."""

import json
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

STAGES = ("queue_ms", "fetch_ms", "decode_ms", "normalize_ms", "infer_ms")


def results_table(rows: Sequence[tuple[str, Mapping[str, str]]]) -> Table:
    """Label, score, duration and stage times of each named result, or its error."""
    table = Table(box=None, pad_edge=False)
    table.add_column("clip")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("seconds", justify="right")
    for stage in STAGES:
        table.add_column(stage.replace("_ms", " ms"), justify="right")
    table.add_column("warning")
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
            said = f"{result.get('status')}: {result.get('error_code', '')}"
            error = Text(result.get("error", ""))
            table.add_row(clip, said, *[""] * (len(STAGES) + 2), error)
    return table


def as_json(job_id: str, result: Mapping[str, str]) -> str:
    """One result as one line of JSON; fields that hold JSON are opened up."""
    opened: dict[str, object] = {"job": job_id, **result}
    for name in ("scores", "timeline"):
        if name in result:
            opened[name] = json.loads(result[name])
    return json.dumps(opened, ensure_ascii=False)
