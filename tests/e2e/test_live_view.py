"""The console's live view in a real browser, of workers and failures that are made up."""

from pathlib import Path

from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.console import browser, console_process
from tests.support.polling import TIMEOUT_SECONDS

KEYS = Keys("emo")
WORKERS = {"a-17-0001": "a", "a-18-0002": "a", "b-19-0003": "b"}
NARROW = {"width": 700, "height": 800}


def test_what_differs_is_seen(tmp_path: Path) -> None:
    """Workers of one host by their names, others by their hosts; and an id of a job is one word."""
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client,
        console_process(tmp_path, server.url, tmp_path) as console,
        browser() as chromium,
    ):
        for name, host in WORKERS.items():
            Words(client, KEYS, name, lease_seconds=3600).tell({"state": "ready", "host": host})
        for number in range(3):
            job = {"job": f"call-of-{number}", "status": "failed", "error_code": "not_audio"}
            client.xadd(KEYS.results, job)
        page = chromium.new_page(viewport=NARROW)
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        page.goto(f"{console.url}/#live")
        page.locator("[data-worker]").nth(2).wait_for()
        assert page.locator("[data-worker] .name").all_inner_texts() == [
            "a-17-0001",
            "a-18-0002",
            "b",
        ]
        links = page.locator("[data-cause] .links a")
        assert links.count() == 3
        assert {len(link.evaluate("one => [...one.getClientRects()]")) for link in links.all()} == {
            1
        }
