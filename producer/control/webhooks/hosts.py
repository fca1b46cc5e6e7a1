"""What one sender holds, host by host: a slow one is behind itself alone.

For each host a few are sent at a time and some wait here; the rest is put aside in Redis.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from storage.errors import InvalidJob
from storage.queue.webhooks import Webhook
from storage.wire.callback import parse_callback


@dataclass(slots=True)
class _Host:
    waiting: deque[Webhook] = field(default_factory=deque)
    turns: int = 0  # how many threads work for it, or are about to
    aside: bool = False  # more of it may be in Redis


def host_of(webhook: Webhook) -> str:
    """Whom it is for, as one word; '' where nobody can be made out."""
    try:
        return parse_callback(webhook.callback).authority
    except InvalidJob:
        return ""


class Hosts:
    """The book of what is held. Thread-safe.

    A *turn* is the right to send one: whoever is given one takes `next_of` and ends it. At most
    `at_once` turns a host are out, and `most` are held, no more than `most_of_one` for one host.
    """

    def __init__(self, *, at_once: int, most: int, most_of_one: int) -> None:
        self._at_once = at_once
        self._most = most
        self._most_of_one = most_of_one
        self._hosts: dict[str, _Host] = {}
        self._held: dict[str, Webhook] = {}  # by entry: what waits here, and what is being sent
        self._changed = threading.Condition()

    def __len__(self) -> int:
        with self._changed:
            return len(self._held)

    def wait_for_room(self, seconds: float) -> int:
        """How many more may be held; waits for that long until there are any."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._held) < self._most, seconds)
            return max(0, self._most - len(self._held))

    def wait_until_empty(self, seconds: float) -> bool:
        """Whether nothing is held any more, within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, seconds)

    def held(self) -> list[Webhook]:
        """All that is held."""
        with self._changed:
            return list(self._held.values())

    def add(self, host: str, webhooks: Iterable[Webhook]) -> tuple[int, list[Webhook]]:
        """Hold them; returns how many turns to give out, and what there is no room for."""
        with self._changed:
            book = self._hosts.setdefault(host, _Host())
            beyond, added = [], 0
            for webhook in webhooks:
                if webhook.entry in self._held:
                    continue
                if len(book.waiting) >= self._most_of_one:
                    beyond.append(webhook)
                    book.aside = True
                else:
                    book.waiting.append(webhook)
                    self._held[webhook.entry] = webhook
                    added += 1
            return self._turns(book, added), beyond

    def has_aside(self, host: str) -> int:
        """More of it is in Redis; returns how many turns to give out."""
        with self._changed:
            book = self._hosts.setdefault(host, _Host())
            book.aside = True
            return self._turns(book, 1)

    def next_of(self, host: str) -> Webhook | None:
        """What to send in this turn; None where nothing waits here."""
        with self._changed:
            book = self._hosts[host]
            return book.waiting.popleft() if book.waiting else None

    def is_aside(self, host: str) -> bool:
        """Whether more may be in Redis; whoever asks looks there, and others do not."""
        with self._changed:
            book = self._hosts[host]
            is_aside, book.aside = book.aside, False
            return is_aside

    def drop(self, webhooks: Iterable[Webhook]) -> None:
        """They are not held any more."""
        with self._changed:
            for webhook in webhooks:
                self._held.pop(webhook.entry, None)
            self._changed.notify_all()

    def end_turn(self, host: str) -> bool:
        """Whether another one follows for that host."""
        with self._changed:
            book = self._hosts[host]
            if book.waiting or book.aside:
                return True
            book.turns -= 1
            if not book.turns:
                del self._hosts[host]
            return False

    def not_begun(self) -> list[Webhook]:
        """Let go of all that nobody has begun to send, and return it."""
        with self._changed:
            left = [webhook for book in self._hosts.values() for webhook in book.waiting]
            for book in self._hosts.values():
                book.waiting.clear()
                book.aside = False
            for webhook in left:
                del self._held[webhook.entry]
            self._changed.notify_all()
            return left

    def _turns(self, book: _Host, most: int) -> int:
        more = max(0, min(most, self._at_once - book.turns))
        book.turns += more
        return more
