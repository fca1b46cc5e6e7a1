"""Both kinds of client, asked in the same way: the asynchronous one on an event loop of its own."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from producer.client import AsyncClient, Client

KINDS = ("threads", "event loop")


class OnALoop:
    """An AsyncClient, or what it gave, whose calls and iterators are waited for."""

    def __init__(self, asked: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._asked = asked
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._asked, name)
        if not callable(found):
            return found
        return lambda *args, **options: self._await(found(*args, **options))

    def _await(self, came: Any) -> Any:
        if inspect.iscoroutine(came):
            came = self._loop.run_until_complete(came)
        if isinstance(came, AsyncIterator):
            return self._iterate(came)
        ours = getattr(type(came), "__module__", "").startswith("producer.client")
        return OnALoop(came, self._loop) if ours else came

    def _iterate(self, came: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.run_until_complete(anext(came))
            except StopAsyncIteration:
                return


def open_client(kind: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of that kind, for a fixture."""
    if kind == "threads":
        with Client(url, **options) as client:
            yield client
        return
    loop = asyncio.new_event_loop()
    waited_for = OnALoop(AsyncClient(url, **options), loop)
    try:
        yield waited_for
    finally:
        waited_for.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
