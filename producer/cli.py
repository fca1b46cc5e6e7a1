"""The producers' command line: submit, look up, wait."""

import sys
import time
import uuid
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from producer import show
from producer.sources import place
from storage.connection import RedisError, UnfitServer, check_server, connect
from storage.errors import JobError
from storage.local_files import named_files
from storage.messages import JOB_ID, Job, Keys, Lane, Status, parse_want
from storage.objects import ObjectStore, open_store
from storage.settings import InvalidSettings, SharedSettings, load
from storage.submission import BacklogFull, Submissions, Submitted

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_SOME_FAILED = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130
_BACKLOG_WAIT_SECONDS = 0.5


class WhenFull(StrEnum):
    """What to do where the lanes are full."""

    WAIT = "wait"
    FAIL = "fail"


app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)

Item = TypeVar("Item")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a job.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait at most; exit status 4.")]


@app.command()
def submit(
    names: Annotated[
        list[str],
        typer.Argument(help="Local files or directories (uploaded), or keys in the store."),
    ],
    wait_for_results: Annotated[
        bool, typer.Option("--wait", help="Wait for the results and show them.")
    ] = False,
    lane: Annotated[Lane, typer.Option(help="Which lane to use.")] = Lane.NORMAL,
    want: Annotated[str, typer.Option(help="embedding,frames,timeline: besides scores.")] = "",
    bucket: Annotated[str | None, typer.Option(help="Bucket of the keys.")] = None,
    job: Annotated[str | None, typer.Option(help="Job id, for one name only.")] = None,
    deadline_seconds: Annotated[
        float | None, typer.Option(help="Give up after this many seconds.")
    ] = None,
    when_full: Annotated[
        WhenFull, typer.Option(help="What to do where EMO_MAX_BACKLOG is reached.")
    ] = WhenFull.WAIT,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue audio; prints each job's id. With --wait, exits with 3 where some failed."""
    settings = _settings()
    files = list(named_files(names))
    if not files:
        _fail(f"there is no audio in {', '.join(names)}", EXIT_SETTINGS)
    if job is not None and len(files) != 1:
        _fail(f"--job {job}: is for one name, not {len(files)}", EXIT_SETTINGS)
    if job is not None and not JOB_ID.fullmatch(job):
        _fail(f"--job {job}: must match {JOB_ID.pattern}", EXIT_SETTINGS)
    deadline_ms = None
    if deadline_seconds is not None:
        deadline_ms = round(1000 * (time.time() + deadline_seconds))
    submissions = _submissions(settings)
    store = _store(settings)
    named: dict[str, str] = {}
    try:
        for file in _progress(files, "submitting", len(files)):
            source = place(file, store, settings.store, bucket)
            submitted = _enqueue(
                submissions,
                Job(
                    id=job or uuid.uuid4().hex,
                    key=source.key,
                    bucket=bucket,
                    deadline_ms=deadline_ms,
                    want=parse_want(want),
                ),
                lane,
                patient=when_full is WhenFull.WAIT,
            )
            named[submitted.job_id] = source.name
            if not submitted.enqueued:
                print(
                    f"job {submitted.job_id} exists and is {submitted.status.value}: nothing was "
                    "enqueued, and its result may be of another object",
                    file=sys.stderr,
                )
            if not wait_for_results:
                shown = {"name": source.name, "key": source.key, "status": submitted.status.value}
                print(show.as_json(submitted.job_id, shown) if as_json else submitted.job_id)
    except (JobError, RedisError, BacklogFull, ValueError, OSError) as error:
        _fail(str(error))
    if wait_for_results:
        _wait(submissions, named, timeout, as_json=as_json)


@app.command()
def status(job: str, as_json: AsJson = False) -> None:
    """Show a job's state and result, as its hash in Redis holds it."""
    try:
        found = _submissions(_settings()).status(job)
    except RedisError as error:
        _fail(str(error))
    if found is None:
        _fail(f"job {job}: unknown; it was never enqueued, or its result has expired")
    if as_json:
        print(show.as_json(job, found))
        return
    width = max(map(len, found))
    for name, value in show.in_order(found).items():
        print(f"{name:<{width}}  {value}")


@app.command()
def wait(jobs: list[str], timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until the jobs have ended, and show their results. Exits with 3 where some failed."""
    submissions = _submissions(_settings())
    try:
        unknown = [job for job in jobs if submissions.status(job) is None]
    except RedisError as error:
        _fail(str(error))
    if unknown:
        _fail(f"job {unknown[0]}: unknown; it was never enqueued, or its result has expired")
    _wait(submissions, {job: job for job in jobs}, timeout, as_json=as_json)


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="`tiny`: do not ask the model hub at all.")] = "",
    keep: Annotated[bool, typer.Option(help="Leave Redis and the worker running.")] = False,
    stop: Annotated[bool, typer.Option(help="Stop what --keep left running.")] = False,
) -> None:
    """Send the sample clips through an embedded Redis and a worker, and show the results."""
    from producer import demo as demonstration  # noqa: PLC0415 (only here)

    try:
        raise typer.Exit(demonstration.stop() if stop else demonstration.run(model, keep=keep))
    except demonstration.DemoFailed as error:
        _fail(str(error))


def _enqueue(submissions: Submissions, job: Job, lane: Lane, *, patient: bool) -> Submitted:
    """Submit; where the lanes are full, wait or give up."""
    said = False
    while True:
        try:
            return submissions.submit(job, lane)
        except BacklogFull as error:
            if not patient:
                raise
            if not said:
                print(f"{error}: waiting", file=sys.stderr)
                said = True
            # Redis tells nobody that a lane got shorter, and this process has nothing else to do.
            time.sleep(_BACKLOG_WAIT_SECONDS)


def _wait(
    submissions: Submissions, named: dict[str, str], timeout: float | None, *, as_json: bool
) -> NoReturn:
    """Show results as jobs end, and exit; what has not ended is named, to be looked up later."""
    rows: dict[str, dict[str, str]] = {}
    status = 0
    try:
        ends = submissions.wait(list(named), timeout_seconds=timeout)
        for job_id, result in _progress(ends, "waiting", len(named)):
            rows[job_id] = result
            if as_json:
                print(show.as_json(job_id, {"name": named[job_id], **result}), flush=True)
            if result["status"] != Status.DONE:
                status = EXIT_SOME_FAILED
    except TimeoutError:
        status = EXIT_TIMEOUT
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except RedisError as error:
        print(error, file=sys.stderr)
        status = EXIT_FAILED
    if not as_json and rows:
        ended = [(named[job_id], rows[job_id]) for job_id in named if job_id in rows]
        Console(width=None if sys.stdout.isatty() else 160).print(show.results_table(ended))
        for line in show.errors(ended):
            print(line, file=sys.stderr)
    still_open = [job_id for job_id in named if job_id not in rows]
    if still_open:
        print("not ended yet:", *still_open, sep="\n", file=sys.stderr)
    raise typer.Exit(status)


def _progress(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """A bar on stderr while more than one item is worked on, where people can see it."""
    console = Console(stderr=True)
    hidden = total == 1 or not console.is_terminal
    return track(items, what, total=total, console=console, disable=hidden, transient=True)


def _settings() -> SharedSettings:
    try:
        return load(SharedSettings, required=("redis_url",))
    except InvalidSettings as error:
        _fail(str(error), EXIT_SETTINGS)


def _submissions(settings: SharedSettings) -> Submissions:
    client = connect(settings.redis_url, name="emostream-producer")
    try:
        check_server(client, settings.prefix)
    except (RedisError, UnfitServer) as error:
        _fail(f"EMO_REDIS_URL: {error}")
    return Submissions(client, keys=Keys(settings.prefix), max_backlog=settings.max_backlog)


def _store(settings: SharedSettings) -> ObjectStore | None:
    if not settings.store:
        return None
    return open_store(
        settings.store,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
    )


def _fail(message: str, status: int = EXIT_FAILED) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(status)
