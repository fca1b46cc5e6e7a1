"""Sends shots as the feed gives them, by several threads: one that waits for Redis stops none."""

import threading
import time
from collections.abc import Sequence

from producer.client import BacklogFull, Client, Job, Lane, RedisError
from producer.stress.feed import Feed, Shot
from producer.stress.waits import Stretch

SENDERS = 8
_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0


class Senders:
    """Threads that send. What ends one of them ends them all, and is raised by `join`."""

    def __init__(
        self,
        client: Client,
        feed: Feed,
        keys: Sequence[str],
        lane: Lane,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        """`keys` are the clips' keys in the store, by their numbers."""
        self._client = client
        self._feed = feed
        self._keys = keys
        self._lane = lane
        self._patience_seconds = patience_seconds
        self.submissions: list[Stretch] = []  # how long each took
        self._fault: Exception | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"send-{number}", daemon=True)
            for number in range(SENDERS)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Whether all is sent. Raises RedisError, where Redis was away for longer than patience."""
        for thread in self._threads:
            thread.join(timeout_seconds)
            if thread.is_alive():
                break
        if self._fault is not None:
            raise self._fault
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            while shots := self._feed.take():
                self._send(shots)
        except Exception as error:
            self._fault = error
            self._feed.stop()

    def _send(self, shots: Sequence[Shot]) -> None:
        """Submit them, and note how long that took; those that met full lanes are over."""
        now = time.monotonic()
        for shot in shots:
            shot.sent = now
        refused = self._submit(shots, now + self._patience_seconds)
        self.submissions.append((now, time.monotonic()))
        for shot in refused:
            shot.refused = True
            self._feed.over(shot)

    def _submit(self, shots: Sequence[Shot], deadline: float) -> list[Shot]:
        """Once; where Redis is away, again, under the same ids. Returns what met full lanes."""
        left = {shot.job_id: shot for shot in shots}
        while left:
            jobs = [Job(shot.job_id, self._keys[shot.clip]) for shot in left.values()]
            try:
                if len(jobs) == 1:
                    self._client.submit(jobs[0], self._lane)
                    return []
                for told in self._client.submit_many(jobs, self._lane, wait=False):
                    del left[told.job_id]
            except BacklogFull:
                return list(left.values())
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_SECONDS)  # nobody tells when it is back
        return []
