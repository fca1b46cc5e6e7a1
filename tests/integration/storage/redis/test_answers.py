"""How long answers of a server are waited for, and in which form they come."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
import redis.exceptions
import torch

from storage.queue.entries import Delivery
from storage.redis.connection import (
    connect,
    is_outage,
    stream_entries,
)
from storage.redis.embedded import EmbeddedRedis
from storage.settings import load
from storage.wire.messages import Lane
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.app import Worker
from worker.engine.engine import Engine
from worker.settings import WorkerSettings


class Swallower:
    """A proxy that passes commands on; while `swallows`, it hangs up instead of answering."""

    def __init__(self, port: int) -> None:
        self.swallows = False
        self.swallowed = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            while command := client.recv(65536):
                server.sendall(command)
                reply = server.recv(65536)
                if self.swallows and b"XADD" in command:
                    self.swallowed += 1
                    return
                client.sendall(reply)


def test_a_command_without_an_answer_is_not_repeated(
    client: Any, redis_server: EmbeddedRedis
) -> None:
    """Given an XADD that was carried out but not answered, the client does not enqueue it twice."""
    proxy = Swallower(redis_server.port)
    try:
        with connect(
            f"redis://127.0.0.1:{proxy.port}", name="test", timeout_seconds=TIMEOUT_SECONDS
        ) as careful:
            careful.ping()
            proxy.swallows = True
            with pytest.raises(redis.exceptions.ConnectionError):
                careful.xadd("emo:jobs", {"key": "a.wav"})
            proxy.swallows = False
            careful.ping()
        until(lambda: proxy.swallowed)
        assert proxy.swallowed == client.xlen("emo:jobs") == 1
    finally:
        proxy.close()


@pytest.fixture
def mute() -> Iterator[str]:
    """URL of a server that swallows everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_says_nothing_is_waited_for_as_long_as_told(mute: str) -> None:
    """Its silence is an outage."""
    began = time.monotonic()
    with (
        connect(mute, name="test", timeout_seconds=0.05) as client,
        pytest.raises(redis.exceptions.TimeoutError) as refused,
    ):
        client.ping()
    assert time.monotonic() - began >= 0.05
    assert client.connection_pool.connection_kwargs["socket_timeout"] == 0.05
    assert is_outage(refused.value)


def test_a_heartbeat_waits_for_a_quarter_of_the_lease(
    mute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a connection that swallows everything, a worker's lease leaves time for another."""
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    options = {"redis_url": mute, "store": tmp_path.as_uri()}
    settings = load(
        WorkerSettings, options={**options, "lease_seconds": 0.4, "decode_processes": 1}
    )
    config = SimpleNamespace(embed_dim=8)
    described = {"model": "tiny"}
    model = SimpleNamespace(
        described=described, untrained=True, config=config, device=torch.device("cpu")
    )
    worker = Worker(
        settings, cast(Engine, SimpleNamespace(model=model, tape_slots=1509, gpu_uuid=None))
    )
    try:
        worker._leases.hold([Delivery(Lane.NORMAL, "1-0", 1, ())])
        began = time.monotonic()
        with pytest.raises(redis.exceptions.TimeoutError):
            worker._heartbeat.beat()
        assert time.monotonic() - began >= 0.1
        told = worker._pulse_client.connection_pool.connection_kwargs["socket_timeout"]
        assert told == pytest.approx(0.1)
    finally:
        worker._assembly.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_entries_are_read_the_same_by_both_protocols(
    client: Any, redis_server: EmbeddedRedis, protocol: int
) -> None:
    """Each with its stream, in order; and nothing where there was nothing."""
    first = client.xadd("a", {"n": "1"})
    second = client.xadd("a", {"n": "2"})
    third = client.xadd("b", {"n": "3"})
    with redis.Redis.from_url(
        redis_server.url, socket_timeout=TIMEOUT_SECONDS, protocol=protocol
    ) as reader:
        reply = reader.xread({"a": "0", "b": "0"})
        assert list(stream_entries(reply)) == [
            (b"a", (first, {b"n": b"1"})),
            (b"a", (second, {b"n": b"2"})),
            (b"b", (third, {b"n": b"3"})),
        ]
        assert list(stream_entries(reader.xread({"a": "$"}, block=1))) == []
