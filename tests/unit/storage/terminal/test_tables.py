"""The parts of a result as people see them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from storage.terminal.tables import parts_table

SCORES = {"happy": 0.75, "sad": 0.25}
TOLD = {"label": "happy", "score": 0.75, "scores": SCORES}


def shown(result: Any) -> list[str]:
    """The lines of the table."""
    table = parts_table(result)
    assert table is not None
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_result_without_parts_has_no_table() -> None:
    """Nor has one whose lists are empty."""
    assert parts_table(TOLD) is None
    assert parts_table({"segments": [], "channels": [], "timeline": []}) is None


def test_segments_are_told_with_their_speakers() -> None:
    """Time, speaker, label, score and a bar; a warning has a column where there is one."""
    first = {"start_s": 0, "end_s": 3.456, "speaker": "Anna [b]", "channel": 1, **TOLD}
    second = {"start_s": 62, "end_s": 3_723.5, **TOLD, "score": 0.5, "warning": "silent"}
    head, one, other = shown({"segments": [first, second]})
    assert head.split() == ["part", "time", "speaker", "label", "score", "warning"]
    assert one.split("  ")[0] == "channel 1 segment"
    assert one.split()[3:9] == ["0.00", "-", "3.46", "Anna", "[b]", "happy"]
    assert one.endswith("0.750  " + "█" * 15)
    assert "1:02.00 - 1:02:03.50" in other
    assert other.endswith("silent")


def test_channels_are_told_with_what_is_in_them() -> None:
    """Their label, and then their segments and timelines."""
    hop = {"start_s": 1, "end_s": 2, "scores": SCORES}
    segment = {"start_s": 0, "end_s": 2, **TOLD, "timeline": [hop]}
    channels = [{"channel": 0, **TOLD, "segments": [segment]}, {"channel": 1, "timeline": [hop]}]
    lines = shown({"timeline": [hop], "channels": channels})
    parts = [line.split("  ")[0] for line in lines[1:]]
    assert parts == [
        "timeline",
        "channel 0",
        "channel 0 segment",
        "channel 0",
        "channel 1",
        "channel 1 timeline",
    ]


def test_a_segment_of_a_channel_is_told_once() -> None:
    """In the list at the top, where that has it; the others are those of the channel."""
    own, shared = ({"start_s": 0, "end_s": 2, **TOLD, **more} for more in ({"channel": 1}, {}))
    channels = [{"channel": 1, **TOLD, "segments": [own, shared]}]
    both = shown({"segments": [own, shared], "channels": channels})[1:]
    parts = [line.split("  ")[0] for line in both]
    assert parts == ["channel 1 segment", "segment", "channel 1", "channel 1 segment"]
    alone = shown({"segments_key": "a.json", "channels": channels})[1:]
    assert [line.split("  ")[0] for line in alone] == ["channel 1", *["channel 1 segment"] * 2]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["start_s", "end_s", "label", "score", "scores", "timeline", "segments"]
            )
            | st.text(),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["timeline", "segments", "channels"]), ANYTHING))
def test_anything_can_be_shown(result: dict[str, Any]) -> None:
    """Hashes are written by anyone."""
    if parts_table(result) is not None:
        shown(result)
