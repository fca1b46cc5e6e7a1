"""Hears of the ends of jobs, on a thread of its own."""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from producer.client import AsyncClient, Contract, Event
from producer.stress.feed import Feed, Shot

_AGAIN_SECONDS = 0.2


class Watcher:
    """Follows the events of all jobs from a moment on; use it in a `with`.

    `foreign` counts the ends of others' jobs, which share the workers.
    """

    def __init__(self, url: str, contract: Contract, *, after: str, prefix: str) -> None:
        """`after` is an event's id, `prefix` what the ids of all our jobs begin with."""
        self.foreign = 0
        self.ended = 0
        self._url = url
        self._contract = contract
        self._after = after
        self._prefix = prefix
        self._shots: dict[str, Shot] = {}
        self._feed: Feed | None = None
        self._loop = asyncio.new_event_loop()
        self._fault: Exception | None = None
        self._heard = threading.Condition()
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def follow(self, shots: dict[str, Shot], feed: Feed) -> None:
        """Hear of these from now on; shots may be added to them before they are sent."""
        self._shots, self._feed, self.ended, self.foreign = shots, feed, 0, 0

    def wait(self, ended: int, *, seconds: float) -> bool:
        """Whether so many of them have ended, waiting for that. Raises what has ended the watch."""
        with self._heard:
            came = self._heard.wait_for(lambda: self.ended >= ended or self._fault, seconds)
        if self._fault is not None:
            raise self._fault
        return bool(came)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        while self._thread.is_alive():
            # Until Python 3.12, asyncio.wait_for loses one that comes while a command is sent.
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(_AGAIN_SECONDS)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._listen())
        self._begun.set()
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            with self._heard:
                self._fault = error
                self._heard.notify_all()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _listen(self) -> None:
        name = "emostream-stress"
        async with AsyncClient(self._url, self._contract, name=name) as client:
            async for event in client.results(self._after):
                self._hear(event)

    def _hear(self, event: Event) -> None:
        shot = self._shots.get(event.job_id)
        if shot is None:
            self.foreign += not event.job_id.startswith(self._prefix)
            return
        shot.ends.append(event)
        if len(shot.ends) == 1:
            with self._heard:
                self.ended += 1
                self._heard.notify_all()
            if self._feed is not None:
                self._feed.over(shot)
