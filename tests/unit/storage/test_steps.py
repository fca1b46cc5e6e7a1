"""Steps on an event loop: a task that carries them out ends when it is told to."""

import asyncio
from collections.abc import Generator
from typing import Any, cast

import pytest
import redis.asyncio

from storage.queue.steps import AsyncDriver, Command, Request


class Late:
    """A client whose every answer comes with the cancellation.

    `asyncio.wait_for` of Python 3.11, by which redis-py sends, then swallows the cancellation.
    """

    def __init__(self) -> None:
        self.asked = 0

    async def execute_command(self, *words: Any) -> bytes:
        """Answer when cancelled; the second time there is no answer any more."""
        self.asked += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if self.asked > 1:
                raise
        return b"late"


def endless() -> Generator[Request, Any, None]:
    """Asks for ever, as whoever waits for a job does."""
    while True:
        yield Command(["XREAD"])


async def cancelled(how: str) -> Late:
    """Carry such steps out, and cancel that."""
    late = Late()
    driver = AsyncDriver(cast(redis.asyncio.Redis, late))
    steps = endless()

    async def iterate() -> None:
        async for _ in driver.iterate(steps):
            pass

    task = asyncio.create_task(driver.run(steps) if how == "run" else iterate())
    while not late.asked:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    return late


@pytest.mark.parametrize("how", ["run", "iterate"])
def test_a_cancellation_that_comes_with_an_answer_is_not_lost(how: str) -> None:
    """Nothing more is asked, and whoever waits for the task does not wait for ever."""
    assert asyncio.run(cancelled(how)).asked == 1


async def in_time() -> bool:
    """Whether a time limit around the steps ends them, with the answer as well."""
    driver = AsyncDriver(cast(redis.asyncio.Redis, Late()))
    try:
        async with asyncio.timeout(0.01):
            await driver.run(endless())
    except TimeoutError:
        return True
    return False


def test_a_time_limit_around_them_is_kept() -> None:
    """It cancels, too, and says what it is."""
    assert asyncio.run(in_time())
