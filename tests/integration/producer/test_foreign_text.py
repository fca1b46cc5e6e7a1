"""Whatever stands in Redis: no command ends with a traceback, or steers a terminal."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from producer.cli import app
from producer.show import ORDER
from storage.redis.embedded import EmbeddedRedis

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
JOB = "victim"
ENTRY = "1700000000000-0"
EVIL = ["\x1b[31m", "[/nonsense]", "[bold]x", "\x9b2J", "\u202egpj", "\u2028", "\udc80", "\ufeff"]
NUMBERS = ["nan", "-inf", "1e999", "9" * 5000, "٣", "[" * 2000, '{"a": NaN}', "1_0", "0x1", " 1"]
STATES = ["done", "failed", "dead", "queued", "nonsense", "done\x1b"]

text = st.sampled_from(EVIL + NUMBERS) | st.text(st.characters(), max_size=20)
value = text.map(lambda one: one.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)
name = st.sampled_from([*ORDER, "_run", "finished_at_ms"]).map(str.encode) | value
fields = st.dictionaries(name, value, max_size=8)
state = st.sampled_from(STATES).map(str.encode) | value


def shown_safely(ran: Result, *, as_json: bool) -> None:
    """No traceback, no raw control character, and what is said to be JSON is."""
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    for line in (ran.stdout + ran.stderr).split("\n"):
        assert not [char for char in line if unicodedata.category(char) in HIDDEN], line
    if as_json:
        for line in ran.stdout.split("\n")[:-1]:
            json.loads(line, parse_constant=pytest.fail)


FORGED: dict[bytes, bytes] = {b"score": b"[/x]\x1b", b"label": b"[/nonsense]", b"scores": b"NaN"}


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(status=state, result=fields, letter=fields)
@example(status=b"done", result=FORGED, letter={b"_attempts": b"9" * 5000})
@example(status=b"done", result={b"score": b"nan", b"duration_s": b"1e999"}, letter={})
@example(status=b"failed", result={b"error": b"\x1b]0;x\x07\n[/b]"}, letter={b"_run": b"\xb2"})
@example(status=b"nonsense", result={b"finished_at_ms": b"soon"}, letter={b"deadline_ms": b"1"})
@example(status=b"done", result={b"timeline": b"[" * 2000, b"\xff\x1b": b"x"}, letter={})
def test_any_hash_and_any_letter_can_be_shown(
    client: Any,
    redis_server: EmbeddedRedis,
    status: bytes,
    result: dict[bytes, bytes],
    letter: dict[bytes, bytes],
) -> None:
    """By every command that shows either, for people and for programs."""
    client.flushall()
    client.hset(f"emo:result:{JOB}", mapping={**result, b"status": status})
    ours = {b"_job": JOB.encode(), b"_lane": b"high", b"_reason": b"internal", b"_run": b"1"}
    client.xadd("emo:dead", {**letter, **ours}, id=ENTRY)
    client.xadd("emo:dead", letter or {b"x": b"y"}, id="18446744073709551615-1")
    client.xgroup_create("emo:jobs", "workers", mkstream=True)
    worker = (letter.get(b"worker") or status).replace(b"\0", b"0") or b"w"
    client.xgroup_createconsumer("emo:jobs", "workers", worker)
    client.zadd("emo:workers", {worker: 2e15})
    client.hset(b"emo:worker:" + worker, mapping={b"gpu_uuid": b"x", **letter, **result})
    client.xadd("emo:results", {"job": status, "status": "failed", "error_code": status})
    commands: list[tuple[str, ...]] = [
        ("status", JOB),
        ("wait", JOB, "--timeout", "0"),
        ("submit", "a.wav", "--job", JOB, "--wait", "--timeout", "0"),
        ("lanes",),
        ("top", "--once"),
        ("dead", "list"),
        ("dead", "show", JOB),
        ("dead", "show", "18446744073709551615-1"),
    ]
    environment = {"EMO_REDIS_URL": redis_server.url, "COLUMNS": "200"}
    for command in commands:
        for as_json in (True, False):
            arguments = [*command, "--json"] if as_json else [*command]
            ran = CliRunner().invoke(app, arguments, env=environment)
            shown_safely(ran, as_json=as_json)
    for command in (("cancel", JOB), ("dead", "replay", JOB, "--drop-deadline")):
        shown_safely(CliRunner().invoke(app, command, env=environment), as_json=False)


def test_a_forged_hash_cannot_name_another_job(client: Any, redis_server: EmbeddedRedis) -> None:
    """The job and its name are told as they were asked for."""
    client.hset(f"emo:result:{JOB}", mapping={"status": "done", "job": "other", "name": "n"})
    environment = {"EMO_REDIS_URL": redis_server.url}
    ran = CliRunner().invoke(app, ["wait", JOB, "--json"], env=environment)
    told = json.loads(ran.stdout)
    assert (told["job"], told["name"]) == (JOB, JOB)
    ran = CliRunner().invoke(app, ["status", JOB, "--json"], env=environment)
    assert json.loads(ran.stdout)["job"] == JOB
