"""`bulk`: very many jobs of one list, which control sends."""

import io
import json
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from producer import show
from producer.client import Client
from producer.control.manifest import ManifestError, unused_columns
from producer.export.formats import Format, UnknownFormat, format_of
from producer.program import (
    EXIT_SETTINGS,
    AsJson,
    client_of,
    explained,
    fail,
    outputs_of,
    settings,
    stdout,
    store_of,
)
from producer.sources import place_segments
from storage.errors import InvalidJob, JobError
from storage.queue.bulks import OPEN, Bulk, BulkExists, Bulks, BulkStatus, check_bulk
from storage.redis.connection import RedisError
from storage.settings import SharedSettings
from storage.terminal.options import (
    ChannelOption,
    HopOption,
    LabelsOption,
    SegmentsOption,
    WantOption,
    parts_of,
)
from storage.terminal.text import json_line, say, tell
from storage.wire.callback import parse_callback
from storage.wire.channels import MIX
from storage.wire.messages import Lane, Want, parse_want, require_compatible

_MANIFESTS = "manifests/"
bulk = typer.Typer(no_args_is_help=True, help="Bulks: very many jobs of one list, sent by control.")
Id = Annotated[str, typer.Argument(metavar="ID", help="The bulk's id.")]


@bulk.command()
def submit(
    *,
    prefix: Annotated[
        str | None, typer.Option(help="All audio in EMO_STORE whose keys begin so.")
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="A list: a local file (uploaded), or a key in EMO_STORE.")
    ] = None,
    written: Annotated[
        Format | None, typer.Option("--format", help="Of the manifest; else by its name.")
    ] = None,
    every_name: Annotated[
        bool, typer.Option("--every-name", help="Keys that are not named as audio, too.")
    ] = False,
    bulk_id: Annotated[str | None, typer.Option("--id", help="Its id, and its batch's.")] = None,
    lane: Annotated[Lane, typer.Option(help="Which lane to use.")] = Lane.BULK,
    want: WantOption = "",
    bucket: Annotated[str | None, typer.Option(help="Bucket of the keys.")] = None,
    callback: Annotated[str | None, typer.Option(help="URL that each end is told to.")] = None,
    channel: ChannelOption = MIX,
    segments: SegmentsOption = "",
    hop: HopOption = None,
    labels: LabelsOption = "",
    deadline_seconds: Annotated[
        float | None, typer.Option(help="Give jobs up after this many seconds from now.")
    ] = None,
) -> None:
    """Have control send all of a prefix, or of a manifest; prints the bulk's id.

    What is given here holds for each job, unless its row of the manifest says otherwise.
    """
    if (prefix is None) == (manifest is None):
        fail("name either --prefix or --manifest", status=EXIT_SETTINGS)
    chosen = settings()
    name = bulk_id or f"bulk-{uuid.uuid4().hex[:12]}"
    try:
        check_bulk(name)
        parts = parts_of(channel, segments, hop, labels)
        wanted = parse_want(f"{want},{Want.TIMELINE}" if hop is not None else want)
        require_compatible(wanted, parts)
        if callback is not None:
            parse_callback(callback)
        if manifest is not None:
            written = written or format_of(manifest)
    except (InvalidJob, UnknownFormat) as error:
        fail(str(error), status=EXIT_SETTINGS)
    client = client_of(chosen)
    bulks = client.operator.bulks
    try:
        if bulks.get(name) is not None or client.batch(name).state() is not None:
            fail(f"bulk {name}: there is a bulk or a batch of that id; choose another")
        most_bytes = chosen.max_job_bytes // 2
        parts = place_segments(parts, store_of(chosen), bucket, most_bytes=most_bytes)
        job = {"want": ",".join(sorted(wanted)), **parts.fields()}
        if bucket is not None:
            job["bucket"] = bucket
        if callback is not None:
            job["callback"] = callback
        if deadline_seconds is not None:
            job["deadline_ms"] = str(round(1000 * (time.time() + deadline_seconds)))
        source: dict[str, Any] = {"prefix": prefix, "every_name": every_name}
        if manifest is not None and written is not None:
            source = _place(manifest, written, name, chosen)
        bulks.create(name, lane, source, job)
    except (RedisError, JobError, OSError, ValueError, BulkExists, ManifestError) as error:
        fail(explained(error))
    say(name)


@bulk.command("list")
def list_bulks(*, as_json: AsJson = False) -> None:
    """List the bulks, the newest first; those that have ended are known for a week."""
    chosen = settings()
    client = client_of(chosen)
    try:
        found = client.operator.bulks.all()[::-1]
        rows = [{**_fields(each), **_counts(client, each.id)} for each in found]
    except RedisError as error:
        fail(explained(error))
    if as_json:
        say(*map(json_line, rows))
    elif rows:
        stdout().print(show.bulks_table(rows))


@bulk.command("show")
def show_bulk(
    name: Id,
    *,
    refused: Annotated[int, typer.Option(min=0, help="Refused rows shown at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show how far it is, what became of its jobs, and rows that no job could be made of."""
    chosen = settings()
    client = client_of(chosen)
    try:
        found = _known(client.operator.bulks, name)
        rows = [json.loads(row) for row in client.operator.bulks.refused(name, refused)[:refused]]
        fields = {**_fields(found), **_counts(client, name)}
    except (RedisError, ValueError) as error:
        fail(explained(error))
    _tell_what_is_not_kept(found, chosen.results_maxlen)
    if as_json:
        return say(json_line({**fields, "refused_rows": rows}))
    say(*show.aligned({name: str(value) for name, value in fields.items() if value != ""}))
    for row in rows:
        say(f"{row['row']}: {row['error']}")


def _tell_what_is_not_kept(found: Bulk, most: int) -> None:
    if found.keys > most:
        tell(
            f"bulk {found.id}: has {found.keys} keys, and the last {most} ends of all jobs are "
            "kept (EMO_RESULTS_MAXLEN): `export --batch` may miss the first"
        )


@bulk.command()
def pause(name: Id) -> None:
    """Send no more of it until it is resumed; what is sent runs."""
    _change(name, [BulkStatus.RUNNING], "is paused", status=BulkStatus.PAUSED)


@bulk.command()
def resume(name: Id) -> None:
    """Go on where it stopped: after `pause`, or when what it failed of is mended."""
    stopped = [BulkStatus.PAUSED, BulkStatus.FAILED]
    _change(name, stopped, "goes on", status=BulkStatus.RUNNING, error="")


@bulk.command()
def cancel(name: Id) -> None:
    """Send no more of it, and have its jobs cancelled where a worker meets them."""
    chosen = settings()
    client = client_of(chosen)
    try:
        bulks = client.operator.bulks
        _known(bulks, name)
        still = [each for each in OPEN if each is not BulkStatus.CANCELLING]
        stopped = bulks.change(name, still, status=BulkStatus.CANCELLING)
        still_open = client.batch(name).cancel()
    except (RedisError, InvalidJob) as error:
        fail(explained(error))
    if not stopped and not still_open:
        fail(f"bulk {name}: has ended; nothing was changed")
    tell(f"bulk {name}: is cancelled; {still_open or 0} job(s) have not ended, and will be")


def _known(bulks: Bulks, name: str) -> Bulk:
    found = bulks.get(name)
    if found is None:
        fail(f"bulk {name}: unknown; it was never submitted, or ended more than a week ago")
    return found


def _change(name: str, expected: list[BulkStatus], became: str, **fields: Any) -> None:
    chosen = settings()
    bulks = client_of(chosen).operator.bulks
    try:
        if not bulks.change(name, expected, **fields):
            fail(f"bulk {name}: is {_known(bulks, name).status}; nothing was changed")
    except RedisError as error:
        fail(explained(error))
    tell(f"bulk {name}: {became}")


def _place(manifest: str, written: Format, name: str, chosen: SharedSettings) -> dict[str, Any]:
    """Where control will find the manifest; a local file is looked at, and uploaded."""
    path = Path(manifest)
    if not path.is_file():
        if not chosen.store:
            fail(f"{manifest}: is no file here, and EMO_STORE is not set", status=EXIT_SETTINGS)
        tell(f"{manifest}: is no file here, so a key in EMO_STORE")
        return {"manifest": manifest, "store": "audio", "format": written.value}
    with path.open("rb") as file:
        unused = unused_columns(io.BufferedReader(file), written)
    if unused:
        tell(f"{manifest}: not used: {', '.join(unused)}")
    key = f"{_MANIFESTS}{name}/{path.name}"
    outputs_of(chosen).put_file(key, path, content_type=written.content_type)
    return {"manifest": key, "store": "output", "format": written.value, "uploaded": True}


def _fields(found: Bulk) -> dict[str, Any]:
    """A bulk for people and programs; what is not there is left out."""
    source = found.source
    listed = source.get("prefix", source.get("manifest", ""))
    fields = {
        "bulk": found.id,
        "status": found.status.value,
        "error": found.error,
        "lane": found.lane.value,
        "prefix" if "prefix" in source else "manifest": listed,
        "pages": found.page,
        "keys": found.keys,
        "skipped": found.skipped,
        "refused": found.refused,
        "created_at_ms": found.created_at_ms,
        "updated_at_ms": found.updated_at_ms,
        "ended_at_ms": found.ended_at_ms,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _counts(client: Client, name: str) -> dict[str, Any]:
    """What became of its jobs, as its batch has counted."""
    state = client.batch(name).state()
    if state is None:
        return {}
    ends = {status.value: count for status, count in state.ends.items()}
    return {"jobs": state.jobs, "open": state.open, **ends}
