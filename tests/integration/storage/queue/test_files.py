"""The files of a batch, as a page notes them."""

from typing import Any

from storage.queue.files import BatchFiles
from storage.wire.messages import Keys


def test_files_are_found_again_with_their_results(client: Any, keys: Keys) -> None:
    """By whoever knows the batch; internal fields of a result are not told."""
    files = BatchFiles(client, keys)
    files.note("monday", "a", {"name": "ä.wav", "state": "uploading"})
    files.note("monday", "a", {"name": "ä.wav", "state": "sent"})
    client.hset(keys.result("a"), mapping={"status": "done", "_entry": "1-1"})
    assert files.all("monday") == {"a": {"name": "ä.wav", "state": "sent"}}
    assert files.results(["a", "b"]) == {"a": {"status": "done"}}
    assert 0 < client.pttl(keys.files("monday")) <= 7 * 86_400_000
    assert files.of("monday", "b") is None
    assert (files.count("monday"), files.count("tuesday")) == (1, 0)


def test_uploads_that_nobody_goes_on_with_are_told(client: Any, keys: Keys) -> None:
    """And those that were ended are not."""
    files = BatchFiles(client, keys)
    files.begun("monday", "a")
    files.begun("monday", "b")
    files.ended("monday", "b")
    assert files.abandoned(-60) == [("monday", "a")]
    assert files.abandoned(60) == []


def test_what_others_wrote_there_is_passed_over(client: Any, keys: Keys) -> None:
    """Anyone may write to Redis: such a file is nobody's."""
    client.hset(keys.files("monday"), mapping={"a": "[]", "b": b"\xff", "c": '{"name": "c"}'})
    client.hset(keys.uploads, "x", "never")
    files = BatchFiles(client, keys)
    assert files.all("monday") == {"c": {"name": "c"}}
    assert files.abandoned(60) == [("x", "")]
