"""Two hours of a call, in a worker that holds no more than for a short clip."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Status
from tests.support.audio_files import wav
from tests.support.polling import until
from tests.support.worker_process import CLIPS, WorkerProcess, worker_process

HOURS_SECONDS = 7_200
RATE_HZ = 8_000
SEGMENTS = 1_500
MOST_MORE_BYTES = 300 * 1024**2
LIMIT_SECONDS = 240.0


def long_call(path: Path) -> None:
    """Two hours of stereo: a head, and zeros that take no room on the disk."""
    size = HOURS_SECONDS * RATE_HZ * 4
    head = wav(b"", channels=2, sample_rate_hz=RATE_HZ, data_size=size)
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + size)


def peak_bytes(worker: WorkerProcess) -> int:
    """The most that was ever resident of it."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def resident_bytes(worker: WorkerProcess) -> int:
    """What is now."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.timeout(480)  # also for a worker that starts, and a short call
def test_a_long_call_with_many_segments_takes_little_memory(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Every turn of it is there, and the worker has grown by less than 300 MB."""
    store = tmp_path / "store"
    store.mkdir()
    long_call(store / "call.wav")
    (store / "short.wav").write_bytes((CLIPS / "01_yes.wav").read_bytes())
    turns = [
        {"start_s": 4.8 * n, "end_s": 4.8 * n + 1, "channel": n % 2, "speaker": "AB"[n % 2]}
        for n in range(SEGMENTS)
    ]
    (store / "turns.json").write_text(json.dumps(turns))

    def result(job: str) -> dict[bytes, bytes] | None:
        found: dict[bytes, bytes] = client.hgetall(f"emo:result:{job}")
        status = found.get(b"status", b"queued").decode()
        return found if Status(status).terminal else None

    settings = {"EMO_MODEL": "random:tiny", "EMO_OUTPUT_STORE": store.as_uri()}
    with worker_process(tmp_path, redis_server.url, store, **settings) as worker:
        client.xadd("emo:jobs", {"key": "short.wav", "job": "short"})
        assert (until(lambda: result("short"), 60.0) or {})[b"status"] == b"done"
        before = resident_bytes(worker)
        call = {"key": "call.wav", "job": "call", "channel": "each", "segments_from": "turns.json"}
        client.xadd("emo:jobs", call)
        done = until(lambda: result("call"), LIMIT_SECONDS) or {}
        grown_bytes = peak_bytes(worker) - before
    assert done[b"status"] == b"done", done
    listed = json.loads((store / done[b"segments_key"].decode()).read_text())
    asked = [{name: turn[name] for name in turns[0]} for turn in listed]
    assert asked == turns
    channels = json.loads((store / done[b"channels_key"].decode()).read_text())
    assert [len(channel["segments"]) for channel in channels] == [SEGMENTS // 2] * 2
    assert grown_bytes < MOST_MORE_BYTES
