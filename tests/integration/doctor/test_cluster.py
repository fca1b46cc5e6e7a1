"""The doctor on a Redis Cluster: it looks at the node that has our keys."""

from pathlib import Path

from tests.support.findings import found, one
from tests.support.redis_servers import NEWEST, Cluster, binary
from worker.doctor.findings import State
from worker.doctor.server import Server
from worker.settings import WorkerSettings


def test_a_cluster(tmp_path: Path) -> None:
    """All is well where the owner of our slot is, whatever the other nodes are."""
    with Cluster(tmp_path, binary(NEWEST)) as cluster:
        owner = cluster.owner("{emo}")
        for node in cluster.nodes:
            policy, most = ("noeviction", "100mb") if node is owner else ("allkeys-lru", "2mb")
            cluster.ask(node, "CONFIG SET", "maxmemory", most)
            cluster.ask(node, "CONFIG SET", "maxmemory-policy", policy)
        settings = WorkerSettings(redis_url=cluster.url, prefix="{emo}")
        for _ in range(3):  # which node it comes to first is chance
            said = found(Server(settings).category())
            assert {state for lines in said.values() for state, _ in lines} == {State.OK}, said
        assert cluster.ask(owner, "DBSIZE") == 0
        single = WorkerSettings(redis_url=owner.url, prefix="{emo}")
        state, text = one(Server(single).category(), "answers")
        assert (state, "redis+cluster://" in text) == (State.FAIL, True)
