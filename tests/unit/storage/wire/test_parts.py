"""Which parts of a recording a job asks for, as job fields say it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidJob
from storage.wire.messages import Job, Want, parse_job
from storage.wire.parts import MOST_SEGMENTS, WHOLE, Parts, SegmentAsked, parse_segments

ONE = '[{"start_s":0,"end_s":1.5}]'


def parse(**fields: str) -> Job:
    """Read a job that has these fields besides its key."""
    listed = [b"key", b"a.wav"]
    for name, value in fields.items():
        listed += [name.encode(), value.encode()]
    return parse_job("x", listed, max_job_bytes=1 << 20)


def test_nothing_is_the_whole_recording() -> None:
    """Fields that are absent or empty ask for what there was before them."""
    empty = dict.fromkeys(("channel", "segments", "segments_from", "hop_s", "labels"), "")
    assert parse().parts == parse(**empty).parts == WHOLE
    assert (WHOLE.channels, WHOLE.segmented) == ("mix", False)


def test_every_part_is_understood() -> None:
    """Each field lands where it belongs."""
    listed = (
        '[{"start_s":0.5,"end_s":2,"speaker":"Ä","channel":1,"text":"hi"}, {"start_s":3,"end_s":4}]'
    )
    job = parse(
        channel="each", segments=listed, hop_s="0.5", labels=" happy,,sad,happy", want="timeline"
    )
    segments = (SegmentAsked(0.5, 2.0, "Ä", 1), SegmentAsked(3.0, 4.0))
    assert job.parts == Parts("each", segments=segments, hop_s=0.5, labels=("happy", "sad"))
    assert parse(segments="speech").parts == Parts(speech=True)
    assert parse(segments_from="a/turns.json").parts == Parts(segments_from="a/turns.json")
    assert parse(segments="[]").parts.segmented


@pytest.mark.parametrize(
    ("fields", "channels"),
    [
        ({}, "mix"),
        ({"channel": "1"}, "1"),
        ({"channel": "each"}, "each"),
        ({"segments": ONE}, "mix"),
        ({"segments": '[{"start_s":0,"end_s":1,"channel":0}]'}, "each"),
        ({"segments": '[{"start_s":0,"end_s":1,"channel":3}]', "channel": "3"}, "3"),
        ({"segments": '[{"start_s":0,"end_s":1,"channel":3}]', "channel": "2"}, "each"),
    ],
)
def test_no_more_is_decoded_than_is_asked_for(fields: dict[str, str], channels: str) -> None:
    """One lane where one will do."""
    assert parse(**fields).parts.channels == channels


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"channel": "left"}, "'channel': 'left'"),
        ({"channel": "8"}, "'channel': '8'"),
        ({"channel": "01"}, "'channel'"),
        ({"channel": "-1"}, "'channel'"),
        ({"segments": "words"}, "'segments': 'words' is neither speech nor"),
        ({"segments": "{}"}, "'segments': '{}' is neither speech nor a JSON list"),
        ({"segments": "Speech"}, "'segments': 'Speech' is neither speech nor a JSON list"),
        ({"segments": '[{"start_s":0}]'}, "item 0, 'end_s'"),
        ({"segments": '[{"start_s":0,"end_s":1},{"start_s":"0","end_s":1}]'}, "item 1, 'start_s'"),
        ({"segments": '[{"start_s":true,"end_s":2}]'}, "item 0, 'start_s'"),
        ({"segments": '[{"start_s":NaN,"end_s":2}]'}, "item 0, 'start_s'"),
        ({"segments": '[{"start_s":0,"end_s":1e999}]'}, "item 0, 'end_s'"),
        ({"segments": '[{"start_s":-1,"end_s":2}]'}, "item 0, 'start_s'"),
        ({"segments": '[{"start_s":2,"end_s":1}]'}, "item 0: it ends at 1 s"),
        ({"segments": '[{"start_s":2,"end_s":2}]'}, "item 0: it ends at 2 s"),
        ({"segments": '[{"start_s":0,"end_s":2,"channel":8}]'}, "item 0, 'channel'"),
        ({"segments": '[{"start_s":0,"end_s":2,"channel":"0"}]'}, "item 0, 'channel'"),
        ({"segments": '[{"start_s":0,"end_s":2,"speaker":7}]'}, "item 0, 'speaker'"),
        ({"segments": "[" * 10_000}, "'segments'"),
        ({"segments": ONE, "segments_from": "turns.json"}, "'segments_from'"),
        ({"segments_from": "x" * 1_025}, "'segments_from'"),
        ({"hop_s": "0.05", "want": "timeline"}, "'hop_s': '0.05'"),
        ({"hop_s": "31", "want": "timeline"}, "'hop_s'"),
        ({"hop_s": "1e0", "want": "timeline"}, "'hop_s'"),
        ({"hop_s": "nan", "want": "timeline"}, "'hop_s'"),
        ({"hop_s": "1"}, "want=timeline"),
        ({"labels": "x" * 2_001}, "'labels'"),
        ({"segments": ONE, "want": "frames"}, "'want'"),
    ],
)
def test_what_cannot_be_understood_is_named(fields: dict[str, str], says: str) -> None:
    """The error tells which field, and of a list which item of it."""
    with pytest.raises(InvalidJob, match=says):
        parse(**fields)


def test_a_list_has_an_end() -> None:
    """One more segment than may be."""
    segments = [{"start_s": 0, "end_s": 1}] * (MOST_SEGMENTS + 1)
    assert len(parse_segments(json.dumps(segments[1:]))) == MOST_SEGMENTS
    with pytest.raises(InvalidJob, match="'segments_from': more than 10000 segments"):
        parse_segments(json.dumps(segments), about="field 'segments_from'")


SECONDS = st.floats(0, 7_000, allow_nan=False)
SEGMENTS = st.builds(
    lambda start, length, speaker, channel: SegmentAsked(start, start + length, speaker, channel),
    SECONDS,
    st.floats(0.025, 100),
    st.none() | st.text(max_size=200),
    st.none() | st.integers(0, 7),
)


@given(
    st.builds(
        Parts,
        channel=st.sampled_from(["mix", "each", "0", "7"]),
        segments=st.none() | st.lists(SEGMENTS, max_size=4).map(tuple),
        hop_s=st.none() | st.floats(0.1, 30),
        labels=st.lists(st.sampled_from(["happy", "<unk>", "ärgerlich"]), unique=True).map(tuple),
    )
    | st.builds(Parts, segments_from=st.just("a/turns.json"))
    | st.builds(Parts, speech=st.just(True))
)
def test_parts_are_read_back_from_a_job(parts: Parts) -> None:
    """What a client sends for a job is what a worker reads."""
    want = frozenset({Want.SCORES, Want.TIMELINE})
    fields = Job("x", "a.wav", want=want, parts=parts).fields()
    listed = [text.encode() for pair in fields.items() for text in pair]
    assert parse_job("x", listed, max_job_bytes=1 << 20).parts == parts
