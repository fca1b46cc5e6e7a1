"""`submit`: enqueue audio."""

import time
import uuid
from functools import partial
from typing import Annotated

import typer

from producer import show
from producer.commands.follow import Timeout, follow
from producer.program import (
    EXIT_SETTINGS,
    AsJson,
    IfFull,
    WhenFull,
    client_of,
    enqueue,
    explained,
    fail,
    progress,
    settings,
    store_of,
)
from producer.sources import place, place_segments
from storage.errors import InvalidJob, JobError
from storage.objects.local_files import named_files
from storage.queue.submission import BacklogFull
from storage.redis.connection import RedisError
from storage.terminal.options import (
    ChannelOption,
    HopOption,
    LabelsOption,
    SegmentsOption,
    WantOption,
    parts_of,
)
from storage.terminal.text import say, tell
from storage.wire.callback import parse_callback
from storage.wire.channels import MIX
from storage.wire.messages import (
    JOB_ID,
    Job,
    Lane,
    Want,
    parse_want,
    require_compatible,
    require_id,
)


def submit(
    names: Annotated[
        list[str],
        typer.Argument(help="Local files or directories (uploaded), or keys in the store."),
    ],
    *,
    wait_for_results: Annotated[
        bool, typer.Option("--wait", help="Wait for the results and show them.")
    ] = False,
    lane: Annotated[Lane, typer.Option(help="Which lane to use.")] = Lane.NORMAL,
    want: WantOption = "",
    bucket: Annotated[str | None, typer.Option(help="Bucket of the keys.")] = None,
    job: Annotated[str | None, typer.Option(help="Job id, for one name only.")] = None,
    batch: Annotated[str | None, typer.Option(help="Count the jobs in this batch.")] = None,
    callback: Annotated[str | None, typer.Option(help="URL that each end is told to.")] = None,
    channel: ChannelOption = MIX,
    segments: SegmentsOption = "",
    hop: HopOption = None,
    labels: LabelsOption = "",
    deadline_seconds: Annotated[
        float | None, typer.Option(help="Give up after this many seconds.")
    ] = None,
    when_full: IfFull = WhenFull.WAIT,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue audio; prints each job's id. With --wait, exits with 3 where some failed."""
    chosen = settings()
    files = list(named_files(names))
    if not files:
        fail(f"there is no audio in {', '.join(names)}", status=EXIT_SETTINGS)
    if job is not None and len(files) != 1:
        fail(f"--job {job}: is for one name, not {len(files)}", status=EXIT_SETTINGS)
    if job is not None and not JOB_ID.fullmatch(job):
        fail(f"--job {job}: must match {JOB_ID.pattern}", status=EXIT_SETTINGS)
    try:
        parts = parts_of(channel, segments, hop, labels)
        wanted = parse_want(f"{want},{Want.TIMELINE}" if hop is not None else want)
        require_compatible(wanted, parts)
        require_id("batch", batch)
        if callback is not None:
            parse_callback(callback)
    except InvalidJob as error:
        fail(str(error), status=EXIT_SETTINGS)
    deadline_ms = None
    if deadline_seconds is not None:
        deadline_ms = round(1000 * (time.time() + deadline_seconds))
    client = client_of(chosen)
    store = store_of(chosen)
    named: dict[str, str] = {}
    try:
        parts = place_segments(parts, store, bucket, most_bytes=chosen.max_job_bytes // 2)
        for file in progress(files, "submitting", len(files)):
            source = place(file, store, chosen.store, bucket)
            asked = Job(
                id=job or uuid.uuid4().hex,
                key=source.key,
                bucket=bucket,
                deadline_ms=deadline_ms,
                want=wanted,
                callback=callback,
                batch=batch,
                parts=parts,
            )
            submitted = enqueue(partial(client.submit, asked, lane), when_full)
            named[submitted.job_id] = source.name
            if not submitted.enqueued:
                tell(
                    f"job {submitted.job_id} exists and is {submitted.status}: nothing was "
                    "enqueued, and its result may be of another object"
                )
            if not wait_for_results:
                shown = {"name": source.name, "key": source.key, "status": submitted.status}
                say(show.as_json(submitted.job_id, shown) if as_json else submitted.job_id)
    except RedisError as error:
        _tell_enqueued(named, printed=not wait_for_results)
        fail(
            explained(error),
            f"{source.name} may have been enqueued as job {asked.id}: "
            f"repeat it with --job {asked.id}",
        )
    except (JobError, BacklogFull, ValueError, OSError) as error:
        _tell_enqueued(named, printed=not wait_for_results)
        fail(str(error))
    if wait_for_results:
        follow(client, named, timeout, as_json=as_json)


def _tell_enqueued(named: dict[str, str], *, printed: bool) -> None:
    """Name the jobs that nobody would know of, now that submit ends early."""
    if named and not printed:
        ids = (f"{job_id}  {name}" for job_id, name in named.items())
        tell("enqueued, and not waited for:", *ids)
