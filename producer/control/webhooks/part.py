"""What webhooks bring to control: a thread that sends, and the function that a retry is."""

from threading import Event
from typing import Any

import structlog

from producer.control.context import Context, Part
from producer.control.webhooks.destinations import Destinations, parse_hosts
from producer.control.webhooks.dispatcher import Dispatcher, new_owner
from producer.control.webhooks.message import parse_secrets
from producer.control.webhooks.sender import Sender

RELEASE = "webhooks.release"
# Where it cannot be said now that a retry is due: an outage of the server of the lanes.
_AGAIN_SECONDS = (5, 15, 60, 300, 900, 3600)

log: Any = structlog.get_logger()


def webhooks(context: Context) -> Part:
    """The part. Without a secret nothing is sent: what would be, waits in its stream."""
    settings = context.settings
    secrets = parse_secrets(settings.webhook_secret.get_secret_value())

    def release_webhook(entry: str, attempt: int) -> None:
        """A job of rq: have that attempt made now, by whichever sender looks next."""
        context.client.operator.release_webhook(entry, attempt)

    def retry_later(entry: str, attempt: int, seconds: float) -> None:
        context.queue.send(
            RELEASE,
            entry,
            attempt,
            job_id=f"webhook-{entry}-{attempt}",
            after_seconds=seconds,
            retry_seconds=_AGAIN_SECONDS,
        )

    def send_webhooks(stop: Event) -> None:
        owner = new_owner()
        judge = Destinations(parse_hosts(settings.webhook_hosts), allow_http=settings.webhook_http)
        sender = Sender(judge, secrets, timeout_seconds=settings.webhook_timeout_seconds)
        Dispatcher(
            context.client.operator.webhooks(owner),
            owner=owner,
            send=sender.send,
            retry_later=retry_later,
            concurrency=settings.webhook_concurrency,
            host_concurrency=settings.webhook_host_concurrency,
        ).run(stop)

    if not secrets:
        log.warning("webhooks.off", why="EMO_WEBHOOK_SECRET is not set")
    return Part({RELEASE: release_webhook}, [send_webhooks] if secrets else [])
