"""What a row says, beside what is said for all rows of its bulk."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from producer.client import new_job
from producer.control.manifest import JOB_FIELDS, Row
from producer.control.rows import job_of
from storage.errors import InvalidJob
from storage.queue.bulks import Bulk, BulkStatus
from storage.wire.messages import Job, Lane

BULK = Bulk("b", BulkStatus.RUNNING, Lane.BULK, {}, {}, 0, -1, "", 0, 0, 0)
LISTED = '[{"start_s":0.0,"end_s":1.5}]'
WANTS = ["scores", "frames", "timeline", "frames,timeline", "embedding,scores", "peaks,preview"]
SAID: dict[str, list[str]] = {
    "want": WANTS,
    "segments": ["speech", LISTED],
    "segments_from": ["turns.json"],
    "hop_s": ["0.5"],
    "channel": ["each", "1"],
    "labels": ["sad"],
    "bucket": ["other"],
    "deadline_ms": ["1795737600000"],
    "callback": ["https://hooks.example.org/a"],
    "traceparent": ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
}


def combinations() -> list[dict[str, Any]]:
    """What can be said of the fields that have to do with each other, and of the others at once."""
    related = ("want", "segments", "segments_from", "hop_s")
    found: list[dict[str, Any]] = []
    for values in product(*([None, *SAID[name]] for name in related)):
        told = zip(related, values, strict=True)
        found.append({name: value for name, value in told if value is not None})
    found.append({name: values[0] for name, values in SAID.items() if name not in related})
    return [fields for fields in found if is_valid(fields)]


def is_valid(fields: dict[str, Any]) -> bool:
    """Whether a job may say that."""
    try:
        new_job("a.wav", **fields)
    except InvalidJob:
        return False
    return True


def test_what_a_row_says_comes_before_what_is_said_for_all() -> None:
    """Whatever was said for all: a row that could be a job is one, and is as it says."""
    found = combinations()
    for of_all, of_row in product(found, found):
        bulk = replace(BULK, job={"want": "scores", **of_all})
        job = job_of(Row("1", "row 1", {"key": "a.wav", **of_row}), bulk, max_job_bytes=32_768)
        said = new_job("a.wav", **of_row).fields()
        for name in of_row:
            assert job.fields()[name] == said[name]


@pytest.mark.parametrize(
    ("of_all", "of_row", "expected"),
    [
        ({"segments": "speech"}, {"channel": "1"}, {"segments": "speech", "channel": "1"}),
        ({"segments": "speech"}, {"segments_from": "t.json"}, {"segments_from": "t.json"}),
        ({"segments_from": "t.json"}, {"segments": "speech"}, {"segments": "speech"}),
        ({"segments": "speech"}, {"want": ["frames"]}, {"want": "frames,scores"}),
        (
            {"want": "frames,peaks"},
            {"segments": "speech"},
            {"segments": "speech", "want": "peaks,scores"},
        ),
        ({"want": "timeline", "hop_s": "2"}, {"want": "peaks"}, {"want": "peaks,scores"}),
        ({"want": "timeline", "hop_s": "2"}, {"channel": "1"}, {"hop_s": "2.0"}),
        ({"want": "timeline", "hop_s": "2"}, {"want": "timeline,peaks"}, {"hop_s": "2.0"}),
    ],
)
def test_what_is_said_for_all_stays_where_the_row_leaves_room_for_it(
    of_all: dict[str, str], of_row: dict[str, Any], expected: dict[str, str]
) -> None:
    """And what the row excludes goes."""
    bulk = replace(BULK, job=of_all)
    job: Job = job_of(Row("1", "row 1", {"key": "a.wav", **of_row}), bulk, max_job_bytes=32_768)
    fields = job.fields()
    assert expected.items() <= fields.items()
    assert ("segments" in fields, "segments_from" in fields, "hop_s" in fields) == (
        "segments" in expected,
        "segments_from" in expected,
        "hop_s" in expected,
    )


def test_every_field_of_a_job_is_tried() -> None:
    """But for those that each row has to itself."""
    assert {*SAID, "key", "job"} == set(JOB_FIELDS)
