"""Replies are bounded, whichever parser redis-py would take."""

from typing import Any

import pytest
from redis._parsers import _AsyncHiredisParser, _HiredisParser

from storage.redis.bounds import (
    AsyncBoundedParser2,
    AsyncBoundedParser3,
    AsyncBoundedReplies,
    BoundedParser2,
    BoundedParser3,
    BoundedReplies,
)


class Kept:
    """A connection that keeps the parser class it is given."""

    parser: type

    def set_parser(self, parser_class: type) -> None:
        """Keep."""
        self.parser = parser_class


class Threads(BoundedReplies, Kept):
    """As of threads."""


class Loops(AsyncBoundedReplies, Kept):
    """As of event loops."""


@pytest.mark.parametrize(
    ("kind", "offered", "protocol", "taken"),
    [
        (Threads, _HiredisParser, 2, BoundedParser2),
        (Threads, _HiredisParser, 3, BoundedParser3),
        (Loops, _AsyncHiredisParser, 2, AsyncBoundedParser2),
        (Loops, _AsyncHiredisParser, 3, AsyncBoundedParser3),
    ],
)
def test_where_hiredis_would_parse_a_bounded_parser_of_that_protocol_does(
    kind: Any, offered: type, protocol: int, taken: type
) -> None:
    """It hands nothing over before it has all of a reply, however long that is."""
    connection = kind()
    connection.protocol = protocol
    connection.set_parser(offered)
    assert connection.parser is taken
