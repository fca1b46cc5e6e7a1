"""The client of either kind wherever the server may be: a socket, a cluster, behind a sentinel."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from producer.client import Contract
from storage.queue.bulks import BulkStatus
from storage.redis import connection
from storage.redis.connection import RedisError, UnfitServer, connect, is_outage
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job
from tests.support.clients import KINDS, open_client
from tests.support.control import Control, files
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port
from tests.support.redis_servers import NEWEST, Cluster, Sentinel, binary

BOTH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentinel that stands still with its machine is not away."""
    monkeypatch.setattr(connection, "_SENTINEL_TIMEOUT_SECONDS", TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters."""
    with Cluster(tmp_path_factory.mktemp("cluster"), binary(NEWEST)) as cluster:
        yield cluster


def at(kind: str, url: str, prefix: str = "emo") -> Any:
    """A client that lives as long as its test."""
    opened = open_client(kind, url, contract=Contract(prefix=prefix))
    return opened, next(opened)


@BOTH
def test_on_a_cluster(kind: str, cluster: Cluster) -> None:
    """Any node leads to the keys; and what is no hash tag is refused."""
    job = Job(f"job-{len(kind)}", "a.wav")
    for node in cluster.nodes:
        url = f"redis+cluster://127.0.0.1:{node.port}"
        opened, ours = at(kind, url, "{emo}")
        ours.check()
        assert [one.job_id for one in ours.submit_many([job])] == [job.id]
        assert ours.status(job.id).fields["run"] == "1"
        opened.close()
    opened, ours = at(kind, url)
    with pytest.raises(UnfitServer, match="hash tag"):
        ours.check()
    opened.close()


def test_a_bulk_on_a_cluster_with_rq_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    """Rq has no cluster; the lanes, the batch and the bulk may lie there all the same."""
    names = files(tmp_path / "store" / "a", 25)
    with EmbeddedRedis(tmp_path / "rq") as rq:
        elsewhere = {"prefix": "{emo}", "control_redis_url": rq.url, "bulk_page_keys": 10}
        control = Control(cluster.url, tmp_path / "store", **elsewhere)
        control.submit("b", "a/")
        control.run()
        assert control.status("b") is BulkStatus.DONE
        redis: Any = connect(cluster.url, name="test", timeout_seconds=TIMEOUT_SECONDS)
        lane = redis.xrange("{emo}:jobs:bulk")
        assert [fields[b"key"].decode() for _, fields in lane] == [f"a/{name}" for name in names]
        control.close()


@BOTH
def test_by_a_socket(kind: str, tmp_path: Path) -> None:
    """Of the file system."""
    options = ("--unixsocket", str(tmp_path / "redis.sock"))
    with EmbeddedRedis(tmp_path, options=options):
        opened, ours = at(kind, f"unix://{tmp_path}/redis.sock")
        ours.check()
        assert ours.submit("a.wav").enqueued
        opened.close()


@BOTH
def test_behind_sentinels(kind: str, tmp_path: Path) -> None:
    """The one that answers names the master; where none does, that is an outage."""
    (tmp_path / "sentinel").mkdir()
    with (
        EmbeddedRedis(tmp_path / "data", binary=binary(NEWEST)) as master,
        Sentinel(tmp_path / "sentinel", binary(NEWEST), master) as sentinel,
    ):
        until(lambda: answers(sentinel.port))
        there = f"127.0.0.1:{sentinel.port}/{Sentinel.MASTER}"
        opened, ours = at(kind, f"redis+sentinel://127.0.0.1:1,{there}")
        ours.check()
        assert ours.submit("a.wav").enqueued
        with connect(master.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
            assert client.xlen("emo:jobs") == 1
        opened.close()


def answers(port: int) -> bool:
    """Whether a sentinel is up."""
    with (
        connect(
            f"redis://127.0.0.1:{port}", name="test", timeout_seconds=TIMEOUT_SECONDS
        ) as client,
        suppress(RedisError),
    ):
        return bool(client.ping())
    return False


@BOTH
def test_nowhere(kind: str) -> None:
    """Nobody listens there: an outage, told as it is."""
    opened, ours = at(kind, f"redis://127.0.0.1:{own_port()}")
    with pytest.raises(ConnectionError) as refused:
        ours.submit("a.wav")
    assert is_outage(refused.value)
    opened.close()
    with pytest.raises(ValueError, match="must begin with redis:"):
        at(kind, "http://localhost")
