"""A queue of webhooks on a real server, with senders in this process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from producer.control.webhooks.destinations import Destinations, parse_hosts
from producer.control.webhooks.dispatcher import Dispatcher, new_owner
from producer.control.webhooks.message import parse_secrets
from producer.control.webhooks.sender import Sender
from storage.queue.webhooks import SENDERS, WebhookLetters, Webhooks, release
from storage.redis.connection import RedisError
from storage.wire.messages import Keys
from tests.support.stream_workers import DONE, Worker
from tests.support.webhook_receiver import SECRET, Receiver

LEASE_SECONDS = 0.4
HOST_CONCURRENCY = 3


@dataclass
class Alarms:
    """Retries that are waited for, by entry: attempt and seconds."""

    set: dict[str, tuple[int, float]] = field(default_factory=dict)

    def later(self, entry: str, attempt: int, seconds: float) -> None:
        """Remember it."""
        self.set[entry] = (attempt, seconds)


class Post:
    """A queue on a real server, and senders for it."""

    def __init__(self, client: Any, keys: Keys, worker: Worker) -> None:
        self.client = client
        self.keys = keys
        self.alarms = Alarms()
        self.letters = WebhookLetters(client, keys=keys)
        self._worker = worker

    def end(self, url: str, *jobs: str) -> None:
        """Have jobs done that want it told there."""
        one = self._worker("one", 60)
        for job in jobs:
            self.client.xadd("emo:jobs", {"key": "a.wav", "job": job, "callback": url})
        while found := one.read(500):
            one.finish([(begun, DONE) for begun in one.begin(found)])

    @contextmanager
    def sending(self, *receivers: Receiver, **options: Any) -> Iterator[threading.Event]:
        """A sender that runs; it may reach those receivers, by any name of theirs."""
        hosts = ",".join(
            f"{name}:{each.port}" for each in receivers for name in ("127.0.0.1", "localhost")
        )
        judge = Destinations(parse_hosts(hosts or "nobody"), allow_http=True)
        sender = Sender(judge, parse_secrets(SECRET), timeout_seconds=options.pop("timeout", 60.0))
        owner = options.pop("owner", None) or new_owner()
        dispatcher = Dispatcher(
            Webhooks(self.client, keys=self.keys, owner=owner),
            **{
                "owner": owner,
                "send": sender.send,
                "retry_later": self.alarms.later,
                "concurrency": 8,
                "host_concurrency": HOST_CONCURRENCY,
                "lease_seconds": LEASE_SECONDS,
                **options,
            },
        )
        stopping = threading.Event()
        thread = threading.Thread(target=dispatcher.run, args=[stopping])
        thread.start()
        try:
            yield stopping
        finally:
            stopping.set()
            thread.join()

    def ring(self) -> None:
        """The time has come for all retries that are waited for."""
        due, self.alarms.set = self.alarms.set, {}
        for entry, (attempt, _) in due.items():
            assert release(self.client, self.keys, entry, attempt)

    def waiting(self) -> Counter[str]:
        """Who has how many, a sender's own name left out."""
        try:
            found = self.client.xinfo_consumers("emo:webhooks", SENDERS)
        except RedisError:
            return Counter()
        known = {one["name"].decode(): one["pending"] for one in found if one["pending"]}
        return Counter({name.partition(":")[0].partition("-")[0]: n for name, n in known.items()})

    def held(self, owner: str, idle_ms: int = 0) -> list[Any]:
        """What a sender has, and has not renewed for so long."""
        found: list[Any] = self.client.xpending_range(
            "emo:webhooks", SENDERS, "-", "+", 1000, consumername=owner, idle=idle_ms
        )
        return found

    @property
    def delivered(self) -> bool:
        """Whether nothing is left to do."""
        return not self.client.xlen("emo:webhooks")


def names(count: int, prefix: str = "job") -> list[str]:
    """So many job ids."""
    return [f"{prefix}-{number}" for number in range(count)]
