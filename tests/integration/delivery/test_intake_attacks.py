"""An intake among entries that are too large to be read, or have ids that nobody else may have."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.integration.storage.queue.test_oversized import OVERSIZED
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.intake_host import MakeHost, hosts
from tests.support.polling import until
from tests.support.stream_workers import result

READ = "return #redis.call('XREADGROUP', 'GROUP', 'workers', 'dead', 'STREAMS', KEYS[1], '>')"


@pytest.fixture
def host(redis_server: EmbeddedRedis, client: Any) -> Iterator[MakeHost]:
    """Make hosts on the emptied server."""
    with hosts(redis_server.url) as make:
        yield make


def test_the_jobs_beside_them_run(host: MakeHost, client: Any) -> None:
    """Whichever kind stands where, good jobs are submitted, and the others end as failed."""
    running = host()
    running.add("first")
    bad = [add(client, "emo:jobs") for add in OVERSIZED.values()]
    running.add("second", "third")
    until(lambda: running.steps() == ["first", "second", "third"])
    assert {result(client, entry)["error_code"] for entry in bad} == {"invalid_job"}
    assert client.xlen("emo:jobs") == 3
    ended = {"status": "failed", "error_code": "invalid_job"}
    sample = running.metrics.registry.get_sample_value
    assert sample("emostream_jobs_ended_total", ended) == len(bad)


def test_what_a_dead_worker_was_given_of_them_ends(host: MakeHost, client: Any) -> None:
    """It was killed by its reply: whoever takes over looks before it reads."""
    running = host(robbed_after_seconds=0.001)
    bad = OVERSIZED["refused"](client, "emo:jobs")
    running.add("good")
    client.eval(READ, 1, "emo:jobs")
    until(lambda: running.steps() == ["good"])
    assert result(client, bad)["status"] == "failed"


@pytest.mark.parametrize("stream", ["emo:jobs", "emo:jobs:bulk"])
def test_a_lane_that_somebody_sealed_goes_on(host: MakeHost, client: Any, stream: str) -> None:
    """The job that sealed it runs like any, and those that come after it too."""
    running = host()
    client.xadd(stream, {"key": "a.wav", "job": "last"}, id=LAST)
    running.steps(3)
    client.xadd(stream, {"key": "a.wav", "job": "next"})
    running.steps(3)
    assert {"last", "next"} <= set(running.room.jobs)
