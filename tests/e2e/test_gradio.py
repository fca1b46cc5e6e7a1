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
from tests.support.worker_process import SAMPLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "console.md"
HAPPY = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": '{"happy":0.9}'})


def test_the_page_of_the_docs_classifies_a_recording(
    redis_server: EmbeddedRedis,
    client: Any,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Served, and asked by Gradio's own client: the recording is in the store, the scores come."""
    pytest.importorskip("gradio", reason="NO gradio here: the extra `gradio` brings it")
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("EMO_REDIS_URL", redis_server.url)
    monkeypatch.setenv("EMO_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    from gradio_client import Client, handle_file  # noqa: PLC0415 (an extra)

    streams = new_streams(JobStreams, client, keys, "one", 30)

    def work() -> None:
        begun = streams.begin(streams.read_blocking(1, block_seconds=60))
        streams.finish([(each, HAPPY) for each in begun])

    (shown,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "shown"}
    exec(compile(shown, str(PAGE), "exec"), names)
    page = names["page"]
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    worker = threading.Thread(target=work)
    worker.start()
    asking = Client(url, verbose=False, download_files=str(tmp_path))
    told = asking.predict(handle_file(str(SAMPLES / "calm_en.wav")), api_name="/classify")
    worker.join()
    assert told["label"] == "happy"
    (file,) = (tmp_path / "store" / "uploads").rglob("*.wav")
    assert file.read_bytes() == (SAMPLES / "calm_en.wav").read_bytes()
    asking.close()
    page.close(verbose=False)
    names["queue"].close()
