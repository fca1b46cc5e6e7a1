"""Jobs that have one cause in common, all at once: run again, or ended as nobody wants them."""

from dataclasses import dataclass
from itertools import islice

from producer.client.threads import Client
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.dead import Replayed, Selection, Verdict

MOST = 1000  # jobs that one call acts on
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Acted:
    """With how many jobs it was done, and how many refused: they had moved on meanwhile."""

    done: int
    refused: int


def replay_dead(client: Client, reason: str) -> Acted:
    """Run the dead jobs of that cause again, the newest thousand, without their deadlines.

    Raises RedisError.
    """
    letters = client.operator.dead_letters
    found = islice(letters.sift(Selection(reason=reason)), MOST)
    done = refused = 0
    while chunk := list(islice(found, _AT_ONCE)):
        for became in letters.replay_many([each.entry for each in chunk], drop_deadline=True):
            runs = isinstance(became, Replayed) and became.verdict is Verdict.REPLAYED
            done, refused = done + runs, refused + (not runs)
    return Acted(done, refused)


def cancel_waiting(client: Client, reason: str) -> Acted:
    """Cancel the jobs that wait for a retry by that cause, a thousand at most. Raises RedisError.

    One that has begun its next attempt meanwhile is cancelled nevertheless.
    """
    waiting = client.operator.retries.causes().get(reason, ())
    done = sum(client.cancel(job).verdict is Cancel.CANCELLED for job in waiting)
    return Acted(done, len(waiting) - done)
