"""A sender of webhooks with short leases, in a process that tests kill: URL of Redis, port."""

import sys
import threading

from producer.control.webhooks.destinations import Destinations, parse_hosts
from producer.control.webhooks.dispatcher import Dispatcher, new_owner
from producer.control.webhooks.message import parse_secrets
from producer.control.webhooks.sender import Sender
from storage.queue.webhooks import Webhooks
from storage.redis.connection import connect
from storage.wire.messages import Keys
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.webhook_receiver import SECRET


def main(url: str, port: str) -> None:
    """Send to that receiver until killed."""
    owner = new_owner()
    judge = Destinations(parse_hosts(f"127.0.0.1:{port}"), allow_http=True)
    with connect(url, name="test-sender", timeout_seconds=TIMEOUT_SECONDS) as client:
        Dispatcher(
            Webhooks(client, keys=Keys("emo"), owner=owner),
            owner=owner,
            send=Sender(judge, parse_secrets(SECRET), timeout_seconds=20.0).send,
            retry_later=lambda *_: None,
            concurrency=8,
            host_concurrency=4,
            lease_seconds=1.0,
        ).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
