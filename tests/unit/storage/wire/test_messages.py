"""The wire contract: job fields from anyone, keys, lanes and states."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import InvalidJob
from storage.wire.messages import (
    MAX_FIELDS,
    Job,
    Keys,
    Lane,
    Status,
    Want,
    default_entry,
    may_be_given,
    pairs,
    parse_job,
    parse_want,
)


def parse(fields: dict[bytes, bytes], max_job_bytes: int = 32 * 1024) -> Job:
    """Read the fields of a job called x."""
    return parse_job("x", listed(fields), max_job_bytes=max_job_bytes)


def listed(fields: dict[bytes, bytes]) -> list[bytes]:
    """Fields as Redis lists them."""
    return [text for pair in fields.items() for text in pair]


def test_a_key_is_enough() -> None:
    """One plain XADD with a key is a job; scores are what it asks for."""
    assert parse({b"key": b"calls/2026/a.wav"}) == Job("x", "calls/2026/a.wav")
    assert parse({b"key": b"a.wav"}).want == {Want.SCORES}


def test_all_fields_are_understood() -> None:
    """Each optional field lands in the job."""
    fields = {
        b"key": "ä/音.wav".encode(),
        b"job": b"my:id",
        b"bucket": b"calls",
        b"deadline_ms": b"1790000000000",
        b"want": b"timeline, embedding,",
        b"callback": b"https://host/path?q=1",
        b"traceparent": b"00-abc-def-01",
    }
    assert parse(fields) == Job(
        "x",
        "ä/音.wav",
        bucket="calls",
        deadline_ms=1_790_000_000_000,
        want=frozenset({Want.SCORES, Want.TIMELINE, Want.EMBEDDING}),
        callback="https://host/path?q=1",
        traceparent="00-abc-def-01",
    )


def test_empty_optional_fields_are_as_good_as_none() -> None:
    """A producer that always sends all fields is understood."""
    names = [b"bucket", b"deadline_ms", b"want", b"callback", b"traceparent"]
    assert parse({b"key": b"a.wav", **dict.fromkeys(names, b"")}) == Job("x", "a.wav")


def test_unknown_fields_are_left_alone() -> None:
    """Also those that are not UTF-8, and those that begin with `_`."""
    fields = {b"key": b"a.wav", b"colour": b"\xff\xfe", b"\xff": b"1", b"_job": b"\xff"}
    assert parse(fields) == Job("x", "a.wav")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "field 'key': missing"),
        ({b"key": b""}, "field 'key': missing"),
        ({b"key": b"caf\xe9.wav"}, "field 'key': not UTF-8 (byte 3)"),
        ({b"key": b"a\0b"}, "field 'key': must be"),
        ({b"key": b"a" * 1025}, "field 'key': must be at most 1024 bytes"),
        ({b"key": "ä".encode() * 513}, "field 'key': must be at most 1024 bytes"),
        ({b"job": b"a/b"}, "field 'job': 'a/b' does not match"),
        ({b"job": b"a" * 129}, "field 'job'"),
        ({b"job": b""}, "field 'job'"),
        ({b"job": b"x\n"}, "field 'job'"),
        ({b"bucket": b"\xff"}, "field 'bucket': not UTF-8"),
        ({b"deadline_ms": b"soon"}, "field 'deadline_ms': 'soon' is not a unix time"),
        ({b"deadline_ms": b"-1"}, "field 'deadline_ms'"),
        ({b"deadline_ms": b"1e9"}, "field 'deadline_ms'"),
        ({b"deadline_ms": "١".encode()}, "field 'deadline_ms'"),
        ({b"want": b"scores,mood"}, "field 'want': 'mood' is not one of scores, embedding"),
        ({b"callback": b"file:///etc/passwd"}, "field 'callback': not an http"),
        ({b"callback": b"https://"}, "field 'callback'"),
        ({b"callback": b"http://host/\r\nX-Evil: 1"}, "field 'callback'"),
        ({b"callback": b"http://h/" + b"a" * 2048}, "field 'callback'"),
        ({b"traceparent": b"\xff"}, "field 'traceparent': not UTF-8"),
    ],
)
def test_what_cannot_be_understood_is_named(fields: dict[bytes, bytes], said: str) -> None:
    """The job fails with its field's name, whatever else it holds."""
    given_key = {} if b"key" in fields or not fields else {b"key": b"a.wav"}
    with pytest.raises(InvalidJob) as refused:
        parse({**given_key, **fields})
    assert str(refused.value).startswith(said)


def test_a_job_has_a_size_limit() -> None:
    """Names and values together, to the byte."""
    fields = {b"key": b"a.wav", b"notes": b"x" * 100}
    assert parse(fields, max_job_bytes=113).key == "a.wav"
    with pytest.raises(InvalidJob, match="113 bytes; at most 112"):
        parse(fields, max_job_bytes=112)


def test_a_job_has_a_limit_of_fields() -> None:
    """More could not be put back for a retry."""
    fields = {b"key": b"a.wav"} | {str(number).encode(): b"" for number in range(MAX_FIELDS)}
    with pytest.raises(InvalidJob, match="1001 fields"):
        parse(fields)
    fields.pop(b"0")
    assert parse(fields).key == "a.wav"


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50)
WORD = st.text(string.ascii_letters, min_size=1, max_size=20)
JOBS = st.builds(
    Job,
    id=st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=128),
    key=TEXT,
    bucket=st.none() | TEXT,
    deadline_ms=st.none() | st.integers(0, 10**15 - 1),
    want=st.sets(st.sampled_from(Want)).map(lambda some: frozenset({Want.SCORES, *some})),
    callback=st.none() | WORD.map(lambda word: f"https://{word}/"),
    traceparent=st.none() | TEXT,
)


@settings(deadline=None)  # a shared machine may pause for longer than one
@given(JOBS)
def test_a_jobs_fields_are_read_back_as_the_job(job: Job) -> None:
    """What `submit` sends is what a worker understands."""
    wire = {name.encode(): value.encode() for name, value in job.fields().items()}
    assert wire[b"job"] == job.id.encode()
    assert parse_job(job.id, listed(wire), max_job_bytes=32 * 1024) == job


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*Job("x", "k").fields(), "bucket"]), st.binary()))
def test_no_bytes_are_worse_than_an_invalid_job(fields: dict[str, bytes]) -> None:
    """Whatever is in the fields, reading them raises nothing else."""
    try:
        job = parse({name.encode(): value for name, value in fields.items()})
    except InvalidJob:
        return
    assert job.key


def test_wants_are_read_from_the_command_line_too() -> None:
    """The same text, the same answer."""
    assert parse_want("") == {Want.SCORES}
    assert parse_want("frames,scores") == {Want.SCORES, Want.FRAMES}


@pytest.mark.parametrize(
    ("job_id", "place"),
    [
        ("1700000000000-0", (Lane.NORMAL, "1700000000000-0")),
        ("high-17-1", (Lane.HIGH, "17-1")),
        ("bulk-17-1", (Lane.BULK, "17-1")),
        ("normal-17-1", None),
        ("my-job", None),
        ("17", None),
        ("17-1-2", None),
        ("99999999999999999999-0", None),  # Redis refuses to look for it
        ("١-١", None),
    ],
)
def test_a_default_id_names_its_entry(job_id: str, place: tuple[Lane, str] | None) -> None:
    """The lane and entry of a job enqueued without an id; nothing for an id of its own."""
    assert default_entry(job_id) == place


def test_keys_are_those_of_the_contract() -> None:
    """Any language may rely on them; the lanes come in reading order."""
    keys = Keys("{emo}")
    assert keys.lanes == ["{emo}:jobs:high", "{emo}:jobs", "{emo}:jobs:bulk"]
    assert keys.result("x") == "{emo}:result:x"
    assert (keys.results, keys.delayed, keys.dead) == (
        "{emo}:results",
        "{emo}:delayed",
        "{emo}:dead",
    )


def test_live_states_are_not_terminal() -> None:
    """A job is live while something still happens to it by itself."""
    live = {Status.QUEUED, Status.RUNNING, Status.RETRYING}
    assert {status for status in Status if not status.terminal} == live


def test_flat_fields_become_a_mapping() -> None:
    """As Redis lists them; half a pair is an error, not a loss."""
    assert pairs([b"a", b"1", b"b", b"2"]) == {b"a": b"1", b"b": b"2"}
    with pytest.raises(ValueError, match="shorter"):
        pairs([b"a"])


def test_repeated_names_count_each_time() -> None:
    """As a mapping they would be one field; in Redis, and on their way, they are all there."""
    with pytest.raises(InvalidJob, match="1001 fields"):
        parse_job("x", [b"key", b"a.wav"] * 1001, max_job_bytes=32 * 1024)
    with pytest.raises(InvalidJob, match="3030 bytes"):
        parse_job("x", [b"k", b"x" * 100] * 30, max_job_bytes=3000)


@pytest.mark.parametrize("given", ["4711-2", "2026-0042", "call-179574266880-1", "1795742668800"])
def test_ids_that_people_have_may_be_given(given: str) -> None:
    """Only what Redis calls its entries by now is theirs."""
    assert parse({b"key": b"a.wav", b"job": given.encode()}).id == "x"
    assert may_be_given(given)


@pytest.mark.parametrize(
    "given", ["1795742668800-0", "high-1795742668800-12", "bulk-179574266880-1"]
)
def test_an_entrys_id_may_not_be_given(given: str) -> None:
    """It is the id of the job that was given none."""
    with pytest.raises(InvalidJob, match="is the id of an entry"):
        parse({b"key": b"a.wav", b"job": given.encode()})
    assert not may_be_given(given)
