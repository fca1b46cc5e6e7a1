"""What no page of ours sends, and what no worker writes: answered as wrong, and nothing breaks."""

import json
from typing import Any

import pytest

from tests.integration.producer.console.conftest import Open

PASSWORD = "a long enough one"
JOB = "a" * 32
BOMB = "[" * 200_000
# A JSON string may say half of a pair, which no UTF-8 can hold.
HALF = '"\\ud800.wav"'


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        '{"a":' * 200_000,
        f'{{"batch": "b", "job": "{JOB}", "name": {HALF}, "size": 0}}',
        f'{{"batch": "b", "job": "{JOB}", "name": {HALF}, "size": 5}}',
        f'{{"batch": {HALF}, "job": "{JOB}", "name": "a.wav", "size": 5}}',
        f'{{"batch": "b", "job": "{JOB}", "name": "a.wav", "size": 1e999}}',
        f'{{"batch": "b", "job": "{JOB}", "name": "a.wav", "size": true}}',
        f'{{"batch": "b", "job": "{JOB}", "name": "a.wav", "size": 5, "segments": {HALF}}}',
        f'{{"batch": "b", "job": "{JOB}", "name": "a.wav", "size": 5, "labels": {HALF}}}',
        "\xff",
        "9" * 100_000,
    ],
)
@pytest.mark.parametrize("path", ["/api/uploads", "/api/dead/replay", "/api/login"])
def test_a_body_that_nobody_can_mean_is_refused(path: str, body: str, console: Open) -> None:
    """However deep it is, and whatever cannot be written down again."""
    page = console(console_password=PASSWORD)
    page.post("/api/login", json={"password": PASSWORD})
    answer = page.post(path, content=body.encode("latin-1"))
    assert answer.status_code in (400, 403)
    assert answer.json()["message"]


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "\xff"])
def test_an_origin_that_is_none_is_another(origin: str, console: Open) -> None:
    """Whatever is sent there."""
    headers = [(b"origin", origin.encode("latin-1")), (b"x-emostream", b"1")]
    answer = console().post("/api/lanes/normal", json={"paused": True}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (403, "wrong_origin")


@pytest.mark.parametrize(
    "foreign", ['state={"a": "b c"}', "a[b]=c", "x y=z", 'q="half', "=;=", ";;"]
)
def test_cookies_of_other_programs_do_not_log_out(foreign: str, console: Open) -> None:
    """Browsers send all those of a host's name, whatever its port."""
    page = console(console_password=PASSWORD)
    page.post("/api/login", json={"password": PASSWORD})
    (ours,) = page.cookies.jar
    page.cookies.clear()
    for told in (f"{foreign}; {ours.name}={ours.value}", f"{ours.name}={ours.value}; {foreign}"):
        assert page.get("/api/about", headers={"cookie": told}).status_code == 200, told


ODD = [BOMB, "NaN", "[NaN]", '{"sad": Infinity}', "[1]", '"x"', "5"]


@pytest.mark.parametrize(
    "name", ["scores", "segments", "channels", "timeline", "score", "duration_s"]
)
def test_a_result_that_no_worker_wrote_breaks_itself_alone(
    name: str, console: Open, client: Any
) -> None:
    """It is shown as far as it can be, and a batch that has it, too."""
    page = console()
    client.hset("emo:batch-files:b", JOB, json.dumps({"name": "a.wav", "state": "sent"}))
    told = {"status": "done", "label": "sad", "score": "0.5", "scores": '{"sad": 0.5}'}
    for text in ODD:
        client.hset(f"emo:result:{JOB}", mapping={**told, "duration_s": "1", name: text})
        (file,) = page.get("/api/batches/b").json()["files"]
        assert file["job"] == JOB
        assert page.get(f"/api/jobs?ids={JOB}").json()["jobs"][0].items() <= file.items()
        assert page.get(f"/api/jobs/{JOB}").json()["label"] == "sad"
        turn = {"start_s": 0, "end_s": 0.2, "channel": 0, "heard": "sad"}
        for asked in ({}, turn, {**turn, "heard": ["x"]}, {**turn, "channel": [{}]}):
            answer = page.post(f"/api/jobs/{JOB}/correction", json={"label": "sad", **asked})
            assert answer.status_code in (200, 400, 409), (text, asked)


@pytest.mark.parametrize(
    "told",
    [
        {"stage_shares": '{"decode": NaN}'},
        {"stage_shares": f'{{"decode": 1{"0" * 400}}}'},
        {"told_at_ms": f"-1{'0' * 400}"},
        {"told_at_ms": f"1{'0' * 400}"},
        {"in_flight": f"1{'0' * 400}"},
        {"clips_per_s": "nan"},
        {"settings": f'{{"EMO_LEASE_SECONDS": "1{"0" * 400}"}}'},
        {"settings": BOMB[:9000]},
        {"gpu_uuid": "x", "gpu_mhz": f"1{'0' * 400}"},
    ],
)
def test_a_worker_that_none_of_ours_is_keeps_no_other_from_being_seen(
    told: dict[str, str], console: Open, client: Any
) -> None:
    """Nor the lanes."""
    now_ms = client.time()[0] * 1000
    for name, fields in (("odd", {"host": "odd", **told}), ("good", {"host": "good"})):
        client.hset(f"emo:worker:{name}", mapping=fields)
        client.zadd("emo:workers", {name: now_ms + 60_000})
    live = console().get("/api/live").json()
    assert "good" in {worker["host"] for worker in live["workers"]}
