"""What keys do: they choose a lane, a cause or a job, and say what is to become of it."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from rich.text import Text

from producer.program import explained
from producer.top.acts import Acts
from producer.top.look import Snapshot
from storage.redis.connection import RedisError
from storage.terminal.text import plain
from storage.wire.messages import Lane

_READS = "keys: q ends; started with --write: also to pause, replay and cancel"
_WRITES = "keys: ↑ ↓ choose · p pause or resume · r replay · c cancel · o job by id · q end"
_LONGEST_ID = 128
_ONLY_SHOWS = "top only shows: start it with --write"
_NO_WAY_BACK = "That cannot be undone. "


class Row(NamedTuple):
    """What can be chosen with the arrows."""

    kind: Literal["lane", "cause"]
    name: str


class _Question(NamedTuple):
    """What is done where the answer is yes."""

    text: str
    act: Callable[[], str]
    warns: str = ""


class Desk:
    """The state between two keys. What cannot be undone is asked about first."""

    def __init__(self, acts: Acts | None) -> None:
        """Without `acts` nothing can be changed."""
        self._acts = acts
        self._snapshot: Snapshot | None = None
        self._row: Row | None = None
        self._job = ""  # chosen by its id, instead of a row
        self._typed: str | None = None  # of an id
        self._question: _Question | None = None
        self._said = ""
        self.ended = False

    def see(self, snapshot: Snapshot | None) -> None:
        """What there is to choose from now; None where Redis does not answer."""
        self._snapshot = snapshot

    @property
    def chosen(self) -> Row | None:
        """The row that is acted on; None where there is none, or nothing may be done with it."""
        rows = self._rows()
        if self._acts is None or self._job or not rows:
            return None
        return self._row if self._row in rows else rows[0]

    def press(self, key: str) -> bool:
        """Obey a key; whether it may have changed something in Redis."""
        self._said = ""
        if self._question is not None:
            return self._answer(key)
        if self._typed is not None:
            self._type(key)
            return False
        match key:
            case "q":
                self.ended = True
            case "up" | "k" | "down" | "j":
                self._move(-1 if key in ("up", "k") else 1)
            case "escape":
                self._job = ""
            case "p" | "r" | "c" | "o":
                return self._begin(key)
        return False

    def foot(self) -> Sequence[Text]:
        """What came of the last key, or is asked; and which keys there are."""
        if self._question is not None:
            answers = f"{self._question.warns}y: yes; any other key: no"
            lines = [Text(each, style="bold yellow") for each in (self._question.text, answers)]
        elif self._typed is not None:
            lines = [Text(f"job: {self._typed}_", style="bold"), _dim("Enter chooses, Esc leaves")]
        else:
            job = [Text(f"job {self._job}", style="reverse")] if self._job else []
            said = [Text(plain(self._said), style="bold")] if self._said else []
            lines = [*job, *said, _dim(_READS if self._acts is None else _WRITES)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return [Text(), *lines]

    def _rows(self) -> list[Row]:
        if self._snapshot is None:
            return []
        lanes = [Row("lane", state.lane.value) for state in self._snapshot.lanes.lanes]
        return [*lanes, *(Row("cause", cause.code) for cause in self._snapshot.causes)]

    def _move(self, by: int) -> None:
        self._job, rows = "", self._rows()
        if (chosen := self.chosen) is not None:
            self._row = rows[max(0, min(len(rows) - 1, rows.index(chosen) + by))]

    def _begin(self, key: str) -> bool:
        acts, row = self._acts, self.chosen
        if acts is None:
            self._said = _ONLY_SHOWS
        elif key == "o":
            self._typed = ""
        elif self._job and key != "p":
            self._question = _of_a_job(acts, self._job, key)
        elif row is None:
            self._said = "choose a lane or a cause first"
        elif key == "p" and row.kind == "lane":
            return self._do(self._pausing(acts, Lane(row.name)))
        elif key != "p" and row.kind == "cause":
            self._question = self._of_a_cause(acts, row.name, key)
        else:
            self._said = "p is for lanes, r and c for causes and jobs"
        return False

    def _pausing(self, acts: Acts, lane: Lane) -> Callable[[], str]:
        paused = self._snapshot is not None and lane in self._snapshot.lanes.paused_seconds
        return lambda: acts.resume(lane) if paused else acts.pause(lane)

    def _of_a_cause(self, acts: Acts, code: str, key: str) -> _Question | None:
        (cause,) = [each for each in self._snapshot.causes if each.code == code]  # type: ignore[union-attr]
        name = plain(code)
        if key == "r":
            text = f"Run the dead jobs of {name} again, {cause.dead:,} of them recent?"
            return _Question(text, lambda: acts.replay_cause(code))
        if not cause.waiting:
            self._said = f"{name}: nothing waits for a retry by it"
            return None
        text = f"Cancel the {cause.waiting:,} that wait for a retry by {name}?"
        return _Question(text, lambda: acts.cancel_cause(code), _NO_WAY_BACK)

    def _answer(self, key: str) -> bool:
        asked, self._question = self._question, None
        if asked is not None and key in ("y", "Y"):
            return self._do(asked.act)
        self._said = "nothing was changed"
        return False

    def _do(self, act: Callable[[], str]) -> bool:
        try:
            self._said = act()
        except RedisError as error:
            self._said = explained(error)
        return True

    def _type(self, key: str) -> None:
        typed = self._typed or ""
        if key == "enter":
            self._job, self._typed = typed, None
        elif key == "escape":
            self._typed = None
        elif key == "backspace":
            self._typed = typed[:-1]
        elif len(key) == 1 and key.isprintable() and not key.isspace():
            self._typed = (typed + key)[:_LONGEST_ID]


def _of_a_job(acts: Acts, job: str, key: str) -> _Question:
    if key == "r":
        return _Question(f"Run the dead job {job} again?", lambda: acts.replay_job(job))
    return _Question(f"Cancel job {job}?", lambda: acts.cancel_job(job), _NO_WAY_BACK)


def _dim(text: str) -> Text:
    return Text(text, style="dim")
