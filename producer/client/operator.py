"""What operators, and the programs beside the workers, see and steer: all but jobs themselves."""

from storage.queue.bulks import Bulks
from storage.queue.dead import DeadLetters
from storage.queue.files import BatchFiles
from storage.queue.history import History
from storage.queue.lanes import Lanes
from storage.queue.pauses import Pauses
from storage.queue.recent import RecentEnds
from storage.queue.retries import Retries
from storage.queue.webhooks import WebhookLetters, Webhooks, release
from storage.redis.connection import Client as Connection
from storage.wire.messages import Keys


class Operator:
    """The parts of the queue, on the connections of a client. What they do raises RedisError."""

    def __init__(self, connection: Connection, *, prefix: str, max_backlog: int) -> None:
        self._connection = connection
        self._keys = Keys(prefix)
        self._max_backlog = max_backlog

    @property
    def lanes(self) -> Lanes:
        """How full they are, and who works on them."""
        return Lanes(self._connection, keys=self._keys)

    @property
    def pauses(self) -> Pauses:
        """Lanes of which nothing more is begun."""
        return Pauses(self._connection, self._keys)

    @property
    def dead_letters(self) -> DeadLetters:
        """Jobs that were given up on."""
        return DeadLetters(self._connection, keys=self._keys, max_backlog=self._max_backlog)

    @property
    def retries(self) -> Retries:
        """Jobs that wait for their next attempt."""
        return Retries(self._connection, self._keys)

    @property
    def history(self) -> History:
        """Jobs that have ended, while their events are kept."""
        return History(self._connection, self._keys)

    @property
    def recent_ends(self) -> RecentEnds:
        """The last thousand jobs that ended, for one who looks again and again."""
        return RecentEnds(self._connection, self._keys)

    @property
    def files(self) -> BatchFiles:
        """What pages have sent, batch by batch."""
        return BatchFiles(self._connection, self._keys)

    @property
    def bulks(self) -> Bulks:
        """How far bulks are."""
        return Bulks(self._connection, self._keys)

    @property
    def webhook_letters(self) -> WebhookLetters:
        """Webhooks that were given up on."""
        return WebhookLetters(self._connection, keys=self._keys)

    def webhooks(self, owner: str) -> Webhooks:
        """The side of the sender of that name."""
        return Webhooks(self._connection, keys=self._keys, owner=owner)

    def release_webhook(self, entry: str, attempt: int) -> bool:
        """Have a webhook sent now that waits for that attempt; see `storage.queue.webhooks`."""
        return release(self._connection, self._keys, entry, attempt)

    def time(self) -> tuple[int, int]:
        """Unix time by the clock of Redis: seconds, and microseconds of the second."""
        seconds, microseconds = self._connection.time()
        return int(seconds), int(microseconds)
