"""When a tape is dispatched, and with which windows on it."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Output = TypeVar("Output")
Segment = TypeVar("Segment")


@dataclass(eq=False)
class _Waiting(Generic[Segment, Output]):
    """A task whose windows are on their way; `outputs` fills up in window order."""

    task: object
    segments: Sequence[Segment]
    since: float
    sent: int = 0
    outputs: list[Output] = field(default_factory=list)


@dataclass(frozen=True)
class Piece(Generic[Segment, Output]):
    """One window of a waiting clip, on the tape."""

    segment: Segment
    owner: _Waiting[Segment, Output]


class TapeFormer(Generic[Segment, Output]):
    """Clips wait here for company. Not thread-safe; owned by the infer thread.

    Clips take turns, a window each, in the order they came: no clip starves, and an hour of audio
    does not keep the short clips behind it waiting. A tape goes when it is full; to an idle device
    also when its oldest clip has waited `max_wait_seconds`, or when nothing more is on its way.
    """

    def __init__(
        self,
        *,
        slots: Callable[[Segment], int],
        tape_slots: Callable[[], int],
        even: Callable[[Sequence[Segment]], int],
        max_wait_seconds: float,
    ) -> None:
        self._slots = slots
        self._tape_slots = tape_slots
        self._even = even
        self._max_wait_seconds = max_wait_seconds
        self._waiting: deque[_Waiting[Segment, Output]] = deque()
        self._oldest = 0.0  # since when the first of them has waited
        self._waiting_slots = 0

    def __len__(self) -> int:
        """Clips with windows that still wait."""
        return len(self._waiting)

    def add(self, task: object, segments: Sequence[Segment], now: float) -> None:
        """Let the windows of a clip wait."""
        self._oldest = min(self._oldest, now) if self._waiting else now
        self._waiting.append(_Waiting(task, segments, now))
        self._waiting_slots += sum(map(self._slots, segments))

    def seconds_left(self, now: float, *, more_coming: bool) -> float | None:
        """Seconds until a tape is due, 0 for now; None while nothing waits."""
        if not self._waiting:
            return None
        if not more_coming or self._waiting_slots >= self._tape_slots():
            return 0.0
        return max(0.0, self._oldest + self._max_wait_seconds - now)

    def due(self, now: float, *, more_coming: bool, device_busy: bool) -> bool:
        """Whether a tape is to be dispatched now. Behind another one only a full one goes."""
        if device_busy:
            return self._waiting_slots >= self._tape_slots()
        return self.seconds_left(now, more_coming=more_coming) == 0.0

    def give_up(
        self, instead: Callable[[object], Output | None]
    ) -> list[tuple[object, list[Output]]]:
        """Let no window wait of the clips that there is an output for instead.

        Returns those that have nothing on a tape; `deliver` returns the others.
        """
        whole, kept = [], deque[_Waiting[Segment, Output]]()
        for owner in self._waiting:
            if (output := instead(owner.task)) is None:
                kept.append(owner)
                continue
            self._waiting_slots -= sum(map(self._slots, owner.segments[owner.sent :]))
            owner.segments = owner.segments[: owner.sent + 1]  # of the last this is the output
            owner.outputs.append(output)
            if len(owner.outputs) == len(owner.segments):
                whole.append((owner.task, owner.outputs))
        self._waiting = kept
        self._see_oldest()
        return whole

    def take(self) -> list[Piece[Segment, Output]]:
        """The next tape: a window of each clip in turn while it fits, and always at least one.

        Where more wait, those that would make it uneven wait with them.
        """
        room = self._tape_slots()
        taken: list[Piece[Segment, Output]] = []
        while self._waiting:
            owner = self._waiting[0]
            segment = owner.segments[owner.sent]
            slots = self._slots(segment)
            if taken and slots > room:
                break
            self._waiting.popleft()
            owner.sent += 1
            if owner.sent < len(owner.segments):
                self._waiting.append(owner)
            taken.append(Piece(segment, owner))
            room -= slots
            self._waiting_slots -= slots
        if self._waiting:
            count = self._even([piece.segment for piece in taken])
            while len(taken) > max(1, count):
                self._put_back(taken.pop())
        self._see_oldest()
        return taken

    def _see_oldest(self) -> None:
        self._oldest = min((owner.since for owner in self._waiting), default=0.0)

    def _put_back(self, piece: Piece[Segment, Output]) -> None:
        """Let the window that was taken last wait again, as before."""
        owner = piece.owner
        if owner.sent < len(owner.segments):
            self._waiting.pop()  # it is the last, for its next window
        owner.sent -= 1
        self._waiting.appendleft(owner)
        self._waiting_slots += self._slots(piece.segment)

    def deliver(
        self, pieces: Iterable[Piece[Segment, Output]], outputs: Iterable[Output]
    ) -> list[tuple[object, list[Output]]]:
        """Hand the outputs to their clips; returns the tasks that now have all of theirs."""
        whole = []
        for piece, output in zip(pieces, outputs, strict=True):
            owner = piece.owner
            owner.outputs.append(output)
            if len(owner.outputs) == len(owner.segments):
                whole.append((owner.task, owner.outputs))
        return whole
