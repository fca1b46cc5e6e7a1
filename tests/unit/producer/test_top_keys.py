"""Keys of `producer top`: what is chosen, what is asked, and what nobody may do."""

import os
import pty
import signal
import termios
import threading
from typing import Any, cast

import pytest
from redis.exceptions import NoPermissionError

from producer.top.acts import Acts
from producer.top.desk import Desk, Row
from producer.top.keyboard import Keyboard, keys_in
from storage.wire.messages import Lane
from tests.unit.producer.test_top import end, shown, snapshot

PARTS = (b"\x1b", b"[", b"A", b"k\x1bO", b"Bj")
KEYS = ["up", "k", "down", "j"]


class Told:
    """Acts that are noted, and done to nobody."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []
        self.refuses: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        def act(what: str) -> str:
            if self.refuses:
                raise self.refuses
            self.acts.append((name, what))
            return f"{name} {what}"

        return act


@pytest.fixture
def told() -> Told:
    """Those of the desk."""
    return Told()


@pytest.fixture
def desk(told: Told) -> Desk:
    """One that may change things, and sees two causes."""
    made = Desk(cast(Acts, told))
    ends = [end("a", "failed", "not_audio"), end("b", "dead", "not_audio")]
    made.see(snapshot([], ends, {"internal": ["c"]}, paused_seconds={Lane.BULK: 9.0}))
    return made


def press(desk: Desk, *keys: str) -> list[bool]:
    """One after the other; whether each has changed something."""
    return [desk.press(key) for key in keys]


def said(desk: Desk) -> str:
    """What stands below the figures."""
    return "\n".join(line.plain for line in desk.foot())


def test_arrows_choose_among_lanes_and_causes(desk: Desk) -> None:
    """Down to the last, and up to the first."""
    assert desk.chosen == Row("lane", "high")
    press(desk, "up", "down", "j", "down")
    assert desk.chosen == Row("cause", "not_audio")
    press(desk, *["down"] * 9)
    assert desk.chosen == Row("cause", "internal")
    press(desk, "k")
    assert desk.chosen == Row("cause", "not_audio")


def test_a_lane_is_paused_and_resumed_at_once(desk: Desk, told: Told) -> None:
    """It can be undone."""
    assert press(desk, "p") == [True]
    assert press(desk, "down", "down", "p")[-1]
    assert told.acts == [("pause", Lane.HIGH), ("resume", Lane.BULK)]
    assert "resume bulk" in said(desk)
    assert press(desk, "r", "c") == [False, False]
    assert len(told.acts) == 2
    assert "for causes and jobs" in said(desk)


@pytest.mark.parametrize(
    ("key", "downs", "asks", "act"),
    [
        ("r", 3, "Run the dead jobs of not_audio again, 1 of them", ("replay_cause", "not_audio")),
        ("c", 4, "Cancel the 1 that wait for a retry by internal", ("cancel_cause", "internal")),
    ],
)
def test_a_cause_is_asked_about_first(
    key: str, downs: int, asks: str, act: tuple[str, str], desk: Desk, told: Told
) -> None:
    """Yes does it, once; anything else changes nothing."""
    press(desk, *["down"] * downs)
    for answer in ("n", "enter", key, "q"):
        assert press(desk, key) == [False]
        assert asks in said(desk)
        assert press(desk, answer) == [False]
        assert "nothing was changed" in said(desk)
    assert told.acts == []
    assert not desk.ended
    assert press(desk, key, "y", "y") == [False, True, False]
    assert told.acts == [act]


def test_what_nothing_waits_for_is_not_asked_about(desk: Desk, told: Told) -> None:
    """And another key is for lanes alone."""
    press(desk, "down", "down", "down", "c")
    assert "nothing waits" in said(desk)
    press(desk, "p")
    assert "p is for lanes" in said(desk)
    assert told.acts == []


@pytest.mark.parametrize(("key", "act"), [("r", "replay_job"), ("c", "cancel_job")])
def test_a_job_is_named_by_its_id(key: str, act: str, desk: Desk, told: Told) -> None:
    """Typed, corrected, chosen, asked about."""
    press(desk, "o", *"call-47q", "backspace", "up", "\x07", " ", "enter")
    assert "job call-47" in said(desk)
    assert desk.chosen is None
    press(desk, key)
    assert "call-47" in said(desk)
    assert press(desk, "y") == [True]
    assert told.acts == [(act, "call-47")]
    press(desk, "escape")
    assert desk.chosen == Row("lane", "high")
    press(desk, "o", "x", "escape", "c")
    assert told.acts == [(act, "call-47")]


def test_what_may_only_look_changes_nothing() -> None:
    """It says how it could, and `q` ends it."""
    desk = Desk(None)
    desk.see(snapshot([]))
    for key in "pcro":
        assert press(desk, key, "y") == [False, False]
    press(desk, "c")
    assert "--write" in said(desk)
    assert desk.chosen is None
    press(desk, "q")
    assert desk.ended


def test_what_redis_refuses_is_said(desk: Desk, told: Told) -> None:
    """And who may do it; nothing ends."""
    told.refuses = NoPermissionError("NOPERM no permissions")
    press(desk, "p")
    assert "NOPERM" in said(desk)
    assert "emo-operator may" in said(desk)


def test_in_an_outage_there_is_nothing_to_choose(desk: Desk, told: Told) -> None:
    """What was chosen is so again when it is back."""
    press(desk, "down")
    before = desk.chosen
    seen = desk._snapshot
    desk.see(None)
    press(desk, "p", "r", "c")
    assert told.acts == []
    desk.see(seen)
    assert desk.chosen == before


def test_a_chosen_cause_is_among_those_that_are_shown() -> None:
    """However many there are, and however low the terminal is."""
    desk = Desk(cast(Acts, Told()))
    found = snapshot([], [end("a", "failed", f"code_{n}") for n in range(9)])
    desk.see(found)
    press(desk, *["down"] * 99)
    lines = shown(found, 80, 24, chosen=desk.chosen, foot=desk.foot())
    assert len(lines) <= 24
    assert any(line.startswith("code_8") for line in lines)
    assert lines[-1].startswith("keys: ")
    assert max(map(len, lines)) <= 80


def test_bytes_are_keys() -> None:
    """As terminals send them; what is no key of ours is none."""
    sent = b"a\x1b[A\x1bOB\x1b[5~\x1b[1;5C\r\x7f\xc3\xa9\xff"
    assert keys_in(sent) == ["a", "up", "down", "enter", "backspace", "é"]
    assert keys_in(b"\x1b") == ["escape"]


def test_a_key_that_comes_in_parts_is_one_key() -> None:
    """As over a slow line; and the terminal is put back afterwards."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    try:
        with Keyboard(theirs, patience_seconds=60) as keyboard:
            assert keyboard.wait(0) == []
            typing = threading.Thread(target=lambda: [os.write(ours, one) for one in PARTS])
            typing.start()
            found: list[str] = []
            while len(found) < len(KEYS):
                found += keyboard.wait(60)
            typing.join()
            assert found == KEYS
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_nothing_typed_stops_it() -> None:
    """A shell that goes on with it would leave it a terminal that echoes and holds keys back."""
    ours, theirs = pty.openpty()
    try:
        with Keyboard(theirs) as keyboard:
            os.write(ours, b"\x1aq")
            assert keyboard.wait(60)[-1] == "q"
            mode, special = (termios.tcgetattr(theirs)[each] for each in (3, 6))
            assert mode & termios.ISIG  # Ctrl-C stays
            assert special[termios.VINTR] == b"\x03"
            assert special[termios.VSUSP] == b"\0"
    finally:
        os.close(ours)
        os.close(theirs)


def test_keys_are_obeyed_after_a_stop() -> None:
    """A shell puts its terminal back when it is stopped, by whomever, and leaves it so at `fg`."""
    ours, theirs = pty.openpty()
    with Keyboard(theirs) as keyboard:
        attributes = termios.tcgetattr(theirs)
        attributes[3] |= termios.ECHO | termios.ICANON
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        signal.raise_signal(signal.SIGCONT)
        os.write(ours, b"q")
        assert keyboard.wait(60) == ["q"]
    assert termios.tcgetattr(theirs)[3] & termios.ECHO
    os.close(ours)
    os.close(theirs)
