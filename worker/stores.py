"""What a worker needs around it: Redis and the stores that its settings name."""

from storage.errors import JobError
from storage.objects.store import ObjectStore, open_store
from storage.redis.connection import check_server, connect
from worker.settings import WorkerSettings


def check_services(settings: WorkerSettings) -> None:
    """Reach Redis and the stores, before minutes go into loading a model.

    Raises RedisError, UnfitServer or JobError.
    """
    with connect(settings.redis_url, name="emostream-check") as client:
        check_server(client, settings.prefix)
    for name, url in (("EMO_STORE", settings.store), ("EMO_OUTPUT_STORE", settings.output_store)):
        try:
            if url:
                open_named_store(settings, url).check()
        except JobError as error:
            raise type(error)(f"{name}: {error}") from error


def open_named_store(settings: WorkerSettings, url: str) -> ObjectStore:
    """The object store of a URL, with the credentials and limits of the settings."""
    return open_store(
        url,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        timeout_seconds=settings.fetch_timeout_seconds,
        connections=settings.fetch_threads,
    )
