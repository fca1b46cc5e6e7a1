"""What is asked of Redis, and in which order, without asking it.

A producer's step is a generator: it yields requests, is sent their replies, and returns what came
of it. `Driver` carries it out on this thread, `AsyncDriver` on an event loop; nothing else differs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.commands.core import AsyncScript, Script

from storage.queue.scripts import load_script, script_text
from storage.redis.connection import RedisError
from storage.redis.event_loop import heeding_cancellation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Command:
    """One command; its reply is what redis-py makes of it."""

    words: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One script, by its name in `lua/`."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Calls:
    """Scripts in one round trip; the reply is a list, with an error for each that was refused."""

    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing, for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give:
    """A value for whoever iterates over the step."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of the steps, when there are no more."""

    value: Any


Request = Command | Call | Calls | Pause | Give
Steps = Generator[Request, Any, T]


class Driver:
    """Carries steps out, on the thread that asks. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._scripts: dict[str, Script] = {}

    def run(self, steps: Steps[T]) -> T:
        """What came of the steps; what they give on the way is dropped. Raises RedisError."""
        each = self._each(steps)
        while True:
            try:
                next(each)
            except StopIteration as end:
                found: T = end.value
                return found

    def iterate(self, steps: Steps[Any]) -> Iterator[Any]:
        """What the steps give on the way. Raises RedisError."""
        yield from self._each(steps)

    def _each(self, steps: Steps[T]) -> Generator[Any, None, T]:
        try:
            request = _step(next, steps)
            while not isinstance(request, _Came):
                reply = None
                if isinstance(request, Give):
                    yield request.value
                else:
                    try:
                        reply = self._ask(request)
                    except RedisError as error:
                        request = _step(steps.throw, error)
                        continue
                request = _step(steps.send, reply)
        finally:
            steps.close()
        found: T = request.value
        return found

    def _ask(self, request: Command | Call | Calls | Pause) -> Any:
        match request:
            case Pause(seconds):
                return time.sleep(seconds)  # Redis tells nobody, and this thread has time
            case Command(words):
                asking: Any = self.client
                return asking.execute_command(*words)
            case Call(script, keys, args):
                return self._script(script)(keys=keys, args=args)
            case Calls(calls):
                pipeline = self.client.pipeline(transaction=False)
                for call in calls:
                    self._script(call.script)(keys=call.keys, args=call.args, client=pipeline)
                return pipeline.execute(raise_on_error=False)

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = load_script(self.client, name)
        return self._scripts[name]


class AsyncDriver:
    """Carries steps out on an event loop, as `Driver` does on a thread."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self._scripts: dict[str, AsyncScript] = {}

    async def run(self, steps: Steps[T]) -> T:
        """What came of the steps; what they give on the way is dropped. Raises RedisError."""
        try:
            request = _step(next, steps)
            while not isinstance(request, _Came):
                request = await self._go_on(steps, request)
        finally:
            steps.close()
        found: T = request.value
        return found

    async def iterate(self, steps: Steps[Any]) -> AsyncIterator[Any]:
        """What the steps give on the way. Raises RedisError."""
        try:
            request = _step(next, steps)
            while not isinstance(request, _Came):
                if isinstance(request, Give):
                    yield request.value
                request = await self._go_on(steps, request)
        finally:
            steps.close()

    async def _go_on(self, steps: Steps[Any], request: Request) -> Request | _Came:
        try:
            reply = await heeding_cancellation(self._ask(request))
        except RedisError as error:
            return _step(steps.throw, error)
        return _step(steps.send, reply)

    async def _ask(self, request: Request) -> Any:
        match request:
            case Give():
                return None
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Command(words):
                asking: Any = self.client
                return await asking.execute_command(*words)
            case Call(script, keys, args):
                return await self._script(script)(keys=keys, args=args)
            case Calls(calls):
                pipeline: Any = self.client.pipeline(transaction=False)
                for call in calls:
                    await self._script(call.script)(call.keys, call.args, client=pipeline)
                return await pipeline.execute(raise_on_error=False)

    def _script(self, name: str) -> AsyncScript:
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(script_text(name))
        return self._scripts[name]


def _step(act: Callable[..., Request], *args: Any) -> Request | _Came:
    """The next request; a coroutine may not let StopIteration out."""
    try:
        return act(*args)
    except StopIteration as end:
        return _Came(end.value)
