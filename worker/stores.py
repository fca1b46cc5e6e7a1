"""What a worker needs around it: Redis and the stores that its settings name."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog

from storage.errors import JobError
from storage.objects.store import ObjectStore
from storage.queue.streams import JobStreams
from storage.redis.connection import Client, UnfitServer, check_server, connect
from storage.redis.durability import weaknesses
from storage.redis.url import parse_redis_url
from storage.wire.messages import Keys
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)
_PROBE_SECONDS = 5.0  # a server that takes longer to say that it has no such object is away


def check_services(settings: WorkerSettings) -> None:
    """Reach Redis and the stores, before minutes go into loading a model.

    Raises RedisError, UnfitServer or JobError.
    """
    for where in in_plain_text(settings):
        log.warning("secrets.in_plain_text", where=where)
    with connect(settings.redis_url, name="emostream-check") as client:
        check_server(client, settings.prefix)
        weak = weaknesses(client) if settings.require_durable_redis else []
    if weak:
        raise UnfitServer("\n".join(f"EMO_REQUIRE_DURABLE_REDIS: {why}" for why in weak))
    for name, url in (("EMO_STORE", settings.store), ("EMO_OUTPUT_STORE", settings.output_store)):
        try:
            if url:
                open_named_store(settings, url).check()
        except JobError as error:
            raise type(error)(f"{name}: {error}") from error


def in_plain_text(settings: WorkerSettings) -> list[str]:
    """Where secrets go over a network that anyone on the way may read."""
    found = []
    redis = parse_redis_url(settings.redis_url)
    if not redis.tls and (redis.options.get("password") or redis.sentinel_options.get("password")):
        found += [f"EMO_REDIS_URL: {host}" for host, _ in redis.nodes if not _is_local(host)]
    if settings.s3_access_key:
        for name in ("store", "output_store"):
            parts = urlsplit(getattr(settings, name))
            if parts.scheme == "s3" and not _is_local(parts.hostname or ""):
                found.append(f"EMO_{name.upper()}: {parts.hostname}")
    return found


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Stores:
    """Where audio is read from and outputs go, and the same again to be asked whether they serve.

    A directory is asked through the very store that is used: it remembers that it was mounted.
    """

    audio: ObjectStore
    outputs: ObjectStore
    probes: tuple[ObjectStore, ...]


def open_streams(settings: WorkerSettings, client: Client, owner: str) -> JobStreams:
    """A worker's side of the delivery protocol, on that connection."""
    return JobStreams(
        client,
        owner=owner,
        keys=Keys(settings.prefix),
        lease_seconds=settings.lease_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        results_maxlen=settings.results_maxlen,
        max_crashes=settings.max_crashes,
        max_job_bytes=settings.max_job_bytes,
    )


def open_stores(settings: WorkerSettings) -> Stores:
    """The stores that the settings name."""
    audio = open_named_store(settings, settings.store)
    outputs_url = settings.output_store or settings.store
    outputs = audio if outputs_url == settings.store else open_named_store(settings, outputs_url)
    probes = {
        url: open_named_store(settings, url, hasty=True) if store.remote else store
        for url, store in ((settings.store, audio), (outputs_url, outputs))
    }
    return Stores(audio, outputs, tuple(probes.values()))


def open_named_store(settings: WorkerSettings, url: str, *, hasty: bool = False) -> ObjectStore:
    """The object store of a URL, with the credentials and limits of the settings.

    A `hasty` one waits for no answer for longer than a few seconds.
    """
    limit_seconds = settings.fetch_timeout_seconds
    return settings.open_store(
        url,
        timeout_seconds=min(limit_seconds, _PROBE_SECONDS) if hasty else limit_seconds,
        connections=1 if hasty else settings.fetch_threads,
        buckets=[name.strip() for name in settings.buckets.split(",") if name.strip()],
    )
