"""The cancelling of jobs that nobody waits for any more."""

from collections.abc import Callable, Sequence

from producer.client import Client, RedisError
from producer.program import explained


class Cancels:
    """Cancels jobs, and counts those that it could not cancel: they are `open`, and may run on."""

    def __init__(self, client: Client, *, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self.open = 0

    def cancel(self, job_ids: Sequence[str]) -> None:
        """End them all; where Redis refuses or is away, say so."""
        left = len(job_ids)
        try:
            for job_id in job_ids:
                self._client.cancel(job_id)
                left -= 1
        except RedisError as error:
            self._say(f"{left} job(s) are open, and cannot be cancelled: {explained(error)}")
        finally:  # a second Ctrl-C leaves some, too
            self.open += left

    @property
    def outcome(self) -> str:
        """What is to be said of them at the end."""
        if not self.open:
            return "what had not ended was cancelled"
        return f"{self.open} job(s) that had not ended were not cancelled, and may run on"
