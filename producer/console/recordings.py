"""What became of the files of a batch, and of single jobs: shown, cancelled, tried again."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer import show
from producer.console.backend import Backend, backend_of, told
from producer.console.uploads import submit
from producer.results import Result, UnreadableResult
from storage.errors import InvalidJob
from storage.queue.batches import check_batch
from storage.queue.dead import Verdict
from storage.wire.messages import JOB_ID, LISTS, Status

_MOST_JOBS = 200
_OBJECTS = ("peaks", "preview")


def routes() -> list[Route]:
    """Those of recordings. Plain functions run on threads."""
    return [
        Route("/api/batches/{batch}", batch_of, methods=["GET"]),
        Route("/api/batches/{batch}/cancel", cancel_batch, methods=["POST"]),
        Route("/api/jobs", summaries, methods=["GET"]),
        Route("/api/jobs/{job}", whole, methods=["GET"]),
        Route("/api/jobs/{job}/cancel", cancel, methods=["POST"]),
        Route("/api/jobs/{job}/retry", retry, methods=["POST"]),
    ]


def batch_of(request: Request) -> Response:
    """The files of a batch with what became of each, and its counts."""
    backend, batch = backend_of(request), check_batch(request.path_params["batch"])
    files = backend.files.all(batch)
    results = backend.files.results(list(files))
    state = backend.client.batch(batch).state()
    rows = [
        {
            **{name: known.get(name) for name in ("name", "size", "modified", "key", "state")},
            **summary(job, results.get(job, {})),
        }
        for job, known in files.items()
    ]
    # Those of other programs are known by their failures alone.
    others = [
        {"job": failure.job_id, "status": failure.status, "error_code": failure.error_code}
        for failure in backend.client.batch(batch).failures(_MOST_JOBS)
        if failure.job_id not in files
    ]
    counts = None if state is None else show.batch_fields(state)
    return told({"batch": batch, "counts": counts, "files": rows, "others": others})


def summaries(request: Request) -> Response:
    """What became of some jobs: `?ids=a,b,c`."""
    jobs = list(filter(None, request.query_params.get("ids", "").split(",")))[:_MOST_JOBS]
    for job in jobs:
        if not JOB_ID.fullmatch(job):  # a link may have it, and the page offers ids to be copied
            raise InvalidJob(f"{job[:40]!r} is the id of no job")
    results = backend_of(request).files.results(jobs)
    return told({"jobs": [summary(job, results.get(job, {})) for job in jobs]})


def whole(request: Request) -> Response:
    """All that is known of one job."""
    backend, job = backend_of(request), request.path_params["job"]
    found = backend.result(job)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"job {job}: unknown, or its result has expired")
    return told(found)


def summary(job: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """What the list of recordings shows of a job."""
    result = Result(job, fields)
    shown: dict[str, Any] = {"job": job, "status": fields.get("status", "")}
    for name in ("key", "label", "warning", "error_code", "error", "model"):
        if name in fields:
            shown[name] = fields[name]
    try:
        if result.done:
            shown |= {"score": result.score, "scores": result.scores}
            shown |= {"duration_s": result.duration_s}
    except UnreadableResult as error:
        shown |= {"status": "unreadable", "error": str(error)}
    shown["parts"] = any(name in fields or f"{name}_key" in fields for name in LISTS)
    shown["objects"] = [name for name in _OBJECTS if f"{name}_key" in fields]
    return shown


def cancel(request: Request) -> Response:
    """End a job that nobody wants."""
    cancelled = backend_of(request).client.cancel(request.path_params["job"])
    return told({"verdict": cancelled.verdict, "was": cancelled.was})


def cancel_batch(request: Request) -> Response:
    """End all jobs of a batch."""
    batch = check_batch(request.path_params["batch"])
    return told({"open": backend_of(request).client.batch(batch).cancel()})


def retry(request: Request) -> Response:
    """Run a job again that ended without a result: a dead one by its letter."""
    backend, job = backend_of(request), request.path_params["job"]
    fields = (backend.client.status(job) or Result(job, {})).fields
    if fields.get("status") == Status.DEAD and (letter := backend.letters.find(job)) is not None:
        became = backend.letters.replay(letter.entry, drop_deadline=True)
        if became.verdict is Verdict.REPLAYED:
            return told({"job": job, "status": Status.QUEUED})
    known = known_file(backend, job, request.query_params.get("batch", ""), fields)
    if known.get("state") != "sent":
        raise HTTPException(
            HTTPStatus.CONFLICT,
            f"job {job}: was not sent from here, and has no dead letter; send it again",
        )
    submit(backend, job, known)
    return told({"job": job, "status": Status.QUEUED})


def known_file(backend: Backend, job: str, batch: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of a job's file; empty where nothing is.

    It is noted under the batch that the page shows, or that of the job's hash: a page may show
    the job alone.
    """
    for each in (batch, fields.get("batch")):
        if each and (known := backend.files.of(str(each), job)):
            return known
    return {}
