"""What `top` does when it is told to, in sentences of what came of it. All raise RedisError."""

from producer.client import Client
from producer.client.causes import cancel_waiting, replay_dead
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.dead import Verdict
from storage.queue.submission import BacklogFull
from storage.wire.messages import Lane


class Acts:
    """On the queue of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pause(self, lane: Lane) -> str:
        """Begin nothing more of a lane."""
        changed = self._client.operator.pauses.pause(lane)
        return f"lane {lane.value}: {'paused' if changed else 'was paused already'}"

    def resume(self, lane: Lane) -> str:
        """Go on with it."""
        changed = self._client.operator.pauses.resume(lane)
        return f"lane {lane.value}: {'resumed' if changed else 'was not paused'}"

    def replay_cause(self, code: str) -> str:
        """Run the dead jobs of one cause again, a thousand at most."""
        acted = replay_dead(self._client, code)
        return f"{code}: {acted.done:,} replayed, {acted.refused:,} not"

    def cancel_cause(self, code: str) -> str:
        """Cancel those that wait for a retry by it, a thousand at most."""
        acted = cancel_waiting(self._client, code)
        return f"{code}: {acted.done:,} cancelled, {acted.refused:,} not"

    def replay_job(self, job: str) -> str:
        """Run a dead job again, without its deadline."""
        letters = self._client.operator.dead_letters
        letter = letters.find(job)
        if letter is None:
            return f"job {job}: is not dead; nothing was changed"
        try:
            became = letters.replay(letter.entry, drop_deadline=True)
        except BacklogFull as error:
            return f"job {job}: {error}; nothing was changed"
        if became.verdict is Verdict.REPLAYED:
            return f"job {job}: replayed"
        return f"job {job}: not replayed: {became.verdict.value.lower()} {became.detail}"

    def cancel_job(self, job: str) -> str:
        """End a job as cancelled."""
        came = self._client.cancel(job)
        if came.verdict is Cancel.CANCELLED:
            return f"job {job}: cancelled; it was {came.was}"
        if came.was is None:
            return f"job {job}: nobody knows it; nothing was changed"
        return f"job {job}: is {came.was} already; nothing was changed"
