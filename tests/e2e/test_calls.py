"""Channels, segments and timelines of a recording, from XADD to the hash, by a real worker."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Status
from tests.support.audio_files import encode, tone
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port
from tests.support.stages import float_wav
from tests.support.worker_process import worker_process
from worker.telemetry.work import NoWorker, look

RATE_HZ = 16_000
SECONDS = 4.0
Run = Callable[..., dict[str, str]]


def side(seed: int) -> Any:
    """One side of a call: noise that comes and goes."""
    noise = np.random.default_rng(seed).normal(0, 0.1, int(SECONDS * RATE_HZ))
    return (noise * tone(SECONDS, hz=0.3, amplitude=1.0)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo call, and by themselves its sides and a turn of it."""
    root = tmp_path_factory.mktemp("store")
    both = np.stack([side(0), side(1)])
    call = encode(both, RATE_HZ, container="wav", codec="pcm_f32le", layout="stereo")
    (root / "call.wav").write_bytes(call)
    for number in range(2):
        (root / f"{number}.wav").write_bytes(float_wav(side(number)))
    (root / "turn.wav").write_bytes(float_wav(side(1)[8_000:40_000]))
    turns = [{"start_s": 0.5, "end_s": 2.5, "channel": 1, "speaker": f"{n}"} for n in range(600)]
    (root / "turns.json").write_text(json.dumps(turns))
    return root


@pytest.fixture(scope="module")
def metrics_port() -> int:
    """Where the worker's metrics are."""
    return own_port()


@pytest.fixture(scope="module")
def run(
    redis_server: EmbeddedRedis,
    store: Path,
    metrics_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """Enqueue a job by plain XADD, and wait for its hash."""
    outputs = tmp_path_factory.mktemp("outputs")
    with connect(redis_server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        client.flushall()
        metrics = f"127.0.0.1:{metrics_port}"
        with worker_process(outputs, redis_server.url, store, EMO_METRICS_ADDRESS=metrics):

            def ended(job: str) -> dict[str, str] | None:
                found = client.hgetall(f"emo:result:{job}")
                told = {name.decode(): value.decode() for name, value in found.items()}
                return told if told and Status(told["status"]).terminal else None

            def enqueue(key: str, **fields: str) -> dict[str, str]:
                job = client.xadd("emo:jobs", {"key": key, **fields}).decode()
                result = until(lambda: ended(job), 120.0) or {}
                return result | {"outputs": str(outputs)}

            yield enqueue


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether scores are equal within what exactness promises, and six digits tell."""
    return one.keys() == other.keys() and all(abs(one[k] - other[k]) < 2e-5 for k in one)


def test_a_call_turn_by_turn(run: Run) -> None:
    """Every channel is what its file gives, and a turn what one would cut."""
    turns = [{"start_s": 0.5, "end_s": 2.5, "speaker": "Anna", "channel": 1}]
    result = run("call.wav", channel="each", segments=json.dumps(turns), want="timeline", hop_s="1")
    assert result["status"] == "done", result
    (turn,) = json.loads(result["segments"])
    alone = json.loads(run("turn.wav")["scores"])
    assert (turn["start_s"], turn["end_s"], turn["speaker"], turn["channel"]) == (
        0.5,
        2.5,
        "Anna",
        1,
    )
    assert same(turn["scores"], alone)
    assert same(json.loads(result["scores"]), alone)  # all segments together
    assert [part["start_s"] for part in turn["timeline"]] == [0.5, 1.5]
    left, right = json.loads(result["channels"])
    assert left["segments"] == []
    assert same(left["scores"], json.loads(run("0.wav")["scores"]))
    assert same(right["segments"][0]["scores"], alone)


def test_channels_leave_the_top_as_it_is(run: Run) -> None:
    """The mix at the top, by itself or not; one channel alone is at the top."""
    result = run("call.wav", channel="each")
    assert same(json.loads(result["scores"]), json.loads(run("call.wav")["scores"]))
    channels = json.loads(result["channels"])
    for number, channel in enumerate(channels):
        assert channel["channel"] == number
        assert same(channel["scores"], json.loads(run(f"{number}.wav")["scores"]))
        one = run("call.wav", channel=str(number))
        assert same(channel["scores"], json.loads(one["scores"]))
        assert "channels" not in one


def test_a_call_to_be_seen_and_heard(run: Run) -> None:
    """Peaks of both channels and a stereo preview lie in the output store, the result as without.

    A mono WAV file too, which no decode process has decoded.
    """
    for key, channels in (("call.wav", 2), ("0.wav", 1)):
        plain = run(key, channel="each")
        result = run(key, channel="each", want="peaks,preview")
        assert {"peaks_key", "preview_key"} & plain.keys() == set()
        assert (result["label"], result["scores"]) == (plain["label"], plain["scores"])
        peaks = (Path(result["outputs"]) / result["peaks_key"]).read_bytes()
        num_bins = int(SECONDS * 100)
        assert struct.unpack("<iIiiII", peaks[:24]) == (2, 1, RATE_HZ, 160, num_bins, channels)
        assert len(peaks) == 24 + 2 * channels * num_bins
        with av.open(str(Path(result["outputs"]) / result["preview_key"])) as preview:
            (stream,) = preview.streams.audio
            assert stream.codec_context.channels == channels
            assert sum(frame.samples for frame in preview.decode(stream)) == SECONDS * RATE_HZ


def test_segments_are_one_fetch_and_one_decode(run: Run, metrics_port: int) -> None:
    """However many of them there are in a recording."""

    def counters() -> Mapping[str, float] | None:
        with suppress(NoWorker):  # it has not answered in time
            return look(f"http://127.0.0.1:{metrics_port}/metrics").counters
        return None

    def runs() -> dict[str, float]:
        counted = until(counters) or {}
        stages = ("fetch", "decode", "normalize")
        return {
            stage: counted.get(f"emostream_stage_seconds_count:{stage}", 0.0) for stage in stages
        }

    before = runs()
    turns = [{"start_s": number / 40, "end_s": number / 40 + 1} for number in range(100)]
    result = run("call.wav", segments=json.dumps(turns))
    assert result["status"] == "done"
    assert len(json.loads(result["segments"])) == 100
    assert runs() == {stage: count + 1 for stage, count in before.items()}


def test_many_segments_come_from_an_object_and_go_to_one(run: Run) -> None:
    """Where neither a job nor a hash has room for them."""
    result = run("call.wav", segments_from="turns.json", labels="happy,sad")
    assert "segments" not in result
    listed = json.loads((Path(result["outputs"]) / result["segments_key"]).read_text())
    assert [turn["speaker"] for turn in listed] == [str(number) for number in range(600)]
    assert {tuple(turn["scores"]) for turn in listed} == {("happy", "sad")}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"channel": "2"}, "has 2 channels"),
        ({"segments": '[{"start_s":3,"end_s":9}]'}, "item 0, 3 to 9 s"),
        ({"segments": "nonsense"}, "'segments'"),
        ({"segments_from": "call.wav"}, "'segments_from'"),
        ({"labels": "hapy"}, "'hapy'"),
        ({"hop_s": "1"}, "want=timeline"),
    ],
)
def test_what_cannot_be_understood_fails_its_job(
    run: Run, fields: dict[str, str], says: str
) -> None:
    """With the part of it that is wrong, at the first try."""
    result = run("call.wav", **fields)
    assert (result["status"], result["error_code"], result["attempts"]) == (
        "failed",
        "invalid_job",
        "1",
    )
    assert says in result["error"]


def test_speech_that_is_not_there_is_said(run: Run) -> None:
    """The result is of the whole then."""
    result = run("call.wav", segments="speech")
    assert result["status"] == "done", result
    assert (result["segments"], result["segments_found"]) == ("[]", "0")
    assert result["warning"].startswith("no_speech")
    assert same(json.loads(result["scores"]), json.loads(run("call.wav")["scores"]))
