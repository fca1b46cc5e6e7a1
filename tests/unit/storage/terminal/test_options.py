"""The parts of a recording as command-line options name them."""

import json
import os
import threading
from pathlib import Path

import pytest

from storage.errors import InvalidJob
from storage.terminal.options import parts_of
from storage.wire.parts import MOST_SEGMENTS_BYTES, WHOLE, Parts, SegmentAsked

ONE = json.dumps([{"start_s": 0, "end_s": 1.5}])


def test_options_are_what_job_fields_are(tmp_path: Path) -> None:
    """And nothing is the whole."""
    turns = tmp_path / "turns.json"
    turns.write_text(ONE)
    assert parts_of("mix", "", None, "") == WHOLE
    assert parts_of("each", "speech", 0.5, "happy, sad") == Parts(
        channel="each", speech=True, hop_s=0.5, labels=("happy", "sad")
    )
    assert parts_of("1", str(turns), None, "").segments == (SegmentAsked(0, 1.5),)


def test_segments_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As a shell gives `<(jq … heard.json)`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(ONE,))
    writer.start()
    try:
        assert parts_of("mix", str(pipe), None, "").segments == (SegmentAsked(0, 1.5),)
    finally:
        writer.join()


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        (None, "No such file or directory.*; name a file with a JSON list, or speech"),
        (b"words", "Invalid JSON"),
        (b'[{"start_s":1,"end_s":0}]', "item 0: it ends at 0 s"),
        (b" " * (MOST_SEGMENTS_BYTES + 1), "larger than 2097152 bytes"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, listed: bytes | None, says: str) -> None:
    """Whatever is wrong with it, without reading more than may be sent."""
    turns = tmp_path / "turns.json"
    if listed is not None:
        turns.write_bytes(listed)
    with pytest.raises(InvalidJob, match=f"--segments {turns}: .*{says}"):
        parts_of("mix", str(turns), None, "")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5_000, "."])
def test_a_name_that_cannot_be_a_file_is_told(name: str) -> None:
    """Nor is a directory one."""
    with pytest.raises(InvalidJob, match="name a file with a JSON list"):
        parts_of("mix", name, None, "")
