"""Labels that somebody found wrong: an object each, as a JSON line and as a Label Studio task."""

import json
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.console.backend import Backend, backend_of, body_of, text_in, told
from producer.console.recordings import known_file
from storage.errors import InvalidJob

FOLDER = "corrections/"
TASKS_FOLDER = "corrections/label-studio/"
_LONGEST_NOTE = 1000
_LATE_SECONDS = 0.5  # a segment may end so much later than the recording


def routes() -> list[Route]:
    """Those of corrections."""
    return [Route("/api/jobs/{job}/correction", correct, methods=["POST"])]


async def correct(request: Request) -> Response:
    """Keep what the label should have been, of a whole recording or of one turn."""
    backend, job, asked = backend_of(request), request.path_params["job"], await body_of(request)
    return await run_in_threadpool(_correct, backend, job, asked)


def _correct(backend: Backend, job: str, asked: Mapping[str, Any]) -> Response:
    result = backend.result(job)
    if result is None or result.get("status") != "done":
        raise HTTPException(HTTPStatus.CONFLICT, f"job {job}: has no label to correct")
    right, batch = text_in(dict(asked), "label"), text_in(dict(asked), "batch")
    labels = result.get("scores")
    if not isinstance(labels, dict) or right not in labels:
        raise InvalidJob(f"field 'label': {right[:40]!r} is none of the model's labels")
    line = correction(job, result, asked, right, known_file(backend, job, batch, result))
    stem = f"{job}.{line['at_ms']}-{secrets.token_hex(3)}"
    where = backend.settings.output_prefix
    keys = [f"{where}{FOLDER}{stem}.jsonl", f"{where}{TASKS_FOLDER}{stem}.json"]
    bodies = [_json(line) + "\n", _json(task(line, backend.settings.store))]
    for key, body, kind in zip(
        keys, bodies, ("application/jsonl", "application/json"), strict=True
    ):
        backend.outputs.put(key, body.encode(), content_type=kind)
    return told({"keys": keys})


def correction(
    job: str,
    result: Mapping[str, Any],
    asked: Mapping[str, Any],
    right: str,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """One line: what was heard, what it was called, and what it should have been called."""
    part = _part(result, asked)
    return {
        "job": job,
        "run": result.get("run", 1),
        "key": known.get("key"),
        "name": known.get("name"),
        **{name: part.get(name) for name in ("start_s", "end_s", "channel", "speaker")},
        "duration_s": result.get("duration_s"),
        **{name: part.get(name) for name in ("label", "score", "scores")},
        "right": right,
        "note": text_in(dict(asked), "note", most=_LONGEST_NOTE),
        "model": result.get("model"),
        "model_revision": result.get("model_revision"),
        "at_ms": round(time.time() * 1000),
    }


def _part(result: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The turn that is meant, by its times and channel; the whole where there are none.

    What is no segment of the result is a stretch of its timeline, or a whole channel.
    """
    start, end, number = (asked.get(name) for name in ("start_s", "end_s", "channel"))
    if not isinstance(number, int | str | None):
        raise InvalidJob("field 'channel': must be a number")
    if start is None:
        return result
    longest = result.get("duration_s")
    longest = longest if isinstance(longest, int | float) else 0.0
    if not (isinstance(start, int | float) and isinstance(end, int | float)) or not (
        0 <= start < end <= longest + _LATE_SECONDS
    ):
        raise InvalidJob(f"fields 'start_s' and 'end_s': no part of {longest:g} seconds")
    channels = [one for one in _items(result, "channels") if one.get("channel") == number]
    segments = _items(result, "segments")
    segments += [one for channel in channels for one in _items(channel, "segments")]
    for one in segments:
        same = (one.get("start_s"), one.get("end_s")) == (start, end)
        if same and number in (None, one.get("channel", number)):
            return {"channel": number, **one}
    whole = channels[0] if channels else result
    told = {name: whole.get(name) for name in ("label", "score", "scores")}
    heard, scores = text_in(dict(asked), "heard"), whole.get("scores")
    if isinstance(scores, dict) and heard in scores and heard != told["label"]:
        told = {"label": heard}  # of a stretch; its score is not that of the whole
    return {**told, "start_s": start, "end_s": end, "channel": number}


def _items(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of a result's; anyone may have written something else there."""
    found = told.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def task(line: Mapping[str, Any], store: str) -> dict[str, Any]:
    """The same for Label Studio: `<Choices name="emotion" toName="audio">`, with what was said."""
    audio = f"{store.rstrip('/')}/{line['key']}" if line["key"] else None
    if audio:
        audio = audio.replace("s3s://", "s3://", 1)
        if audio.startswith("s3://"):  # Label Studio names the bucket, and has the server apart
            audio = f"s3://{audio.removeprefix('s3://').partition('/')[2]}"
    parts = {name: line[name] for name in ("start_s", "end_s", "channel", "speaker")}
    return {
        "data": {
            "audio": audio,
            "job": line["job"],
            "name": line["name"],
            **{name: value for name, value in parts.items() if value is not None},
        },
        "predictions": [
            {
                "model_version": f"{line['model']}@{line['model_revision'] or ''}",
                "score": line["score"],
                "result": [_choice(line, line["label"])],
            }
        ],
        "annotations": [{"result": [_choice(line, line["right"])]}],
    }


def _choice(line: Mapping[str, Any], label: str) -> dict[str, Any]:
    value: dict[str, Any] = {"choices": [label]}
    if line["start_s"] is not None:
        value |= {"start": line["start_s"], "end": line["end_s"]}
        if isinstance(line["channel"], int):
            value["channel"] = line["channel"]
    return {"from_name": "emotion", "to_name": "audio", "type": "choices", "value": value}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
