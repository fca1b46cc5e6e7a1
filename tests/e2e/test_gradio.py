"""The Gradio page that docs/console.md shows does run."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.stream_workers import new_streams

PAGE = Path(__file__).resolve().parents[2] / "docs" / "console.md"
HAPPY = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": '{"happy":0.9}'})


def test_the_page_of_the_docs_classifies(
    redis_server: EmbeddedRedis, client: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its function gives what a worker found; the page itself is made as well."""
    pytest.importorskip("gradio", reason="NO gradio here: the extra `gradio` brings it")
    monkeypatch.setenv("EMO_REDIS_URL", redis_server.url)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    streams = new_streams(JobStreams, client, keys, "one", 30)

    def work() -> None:
        begun = streams.begin(streams.read_blocking(1, block_seconds=20))
        streams.finish([(each, HAPPY) for each in begun])

    (shown,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(shown, str(PAGE), "exec"), names)
    worker = threading.Thread(target=work)
    worker.start()
    assert names["classify"]("a.wav") == {"happy": 0.9}
    worker.join()
    names["queue"].close()
