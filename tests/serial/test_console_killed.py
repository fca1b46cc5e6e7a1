"""The console, Redis and a worker killed in the middle of an upload of ten files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.support.console import browser, console_process, large_wav
from tests.support.polling import until
from tests.support.ports import own_port
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.worker_process import worker_process

FILES = 10
BYTES_A_SECOND = 12 * 1024**2  # so that there is a middle
WAIT_SECONDS = 200.0  # longer than the page waits for a connection that stands still
# However late we look: one file ends, and the page hears no more of it; the others stand before
# their end, until they are let go.
HOLD = """() => {
    const send = window.fetch;
    const held = new Promise((resolve) => { window.letGo = resolve; });
    let first;
    window.fetch = async (path, options) => {
        const ends = path.endsWith("/finish") && path !== (first ??= path);
        if (ends || path.startsWith("/api/jobs?")) await held;
        return send(path, options);
    };
}"""


def states(page: Any) -> list[str]:
    """Those of all recordings that the page shows."""
    found: list[str] = page.eval_on_selector_all(
        ".card", "cards => cards.map((card) => card.dataset.state)"
    )
    return found


@contextmanager
def store_of(kind: str, files: Path) -> Iterator[dict[str, str]]:
    """The settings of a store whose objects lie in that directory, as a directory and by S3."""
    (files / "audio").mkdir(parents=True)
    if kind == "directory":
        yield {"EMO_STORE": (files / "audio").as_uri()}
        return
    with s3_server(files) as server:
        yield {
            "EMO_STORE": server.url("audio"),
            "EMO_S3_ACCESS_KEY": ACCESS_KEY,
            "EMO_S3_SECRET_KEY": SECRET_KEY,
        }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["directory", "S3"])
def test_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    """The page goes on by itself, and a new one shows all ten of them as done."""
    store, whole = tmp_path / "store", large_wav(4)
    names = [tmp_path / f"{number}.wav" for number in range(FILES)]
    for name in names:
        name.write_bytes(whole)
    settings = {"EMO_CONSOLE_ADDRESS": f"127.0.0.1:{own_port()}"}
    redis = EmbeddedRedis(tmp_path / "redis")
    with browser() as chromium, redis, store_of(kind, store) as of_store:
        settings |= of_store
        page = chromium.new_page()
        page.set_default_timeout(WAIT_SECONDS * 1000)
        with (
            worker_process(tmp_path, redis.url, store, **of_store, EMO_LEASE_SECONDS="3"),
            console_process(tmp_path, redis.url, store, **settings) as console,
        ):
            url = console.url
            page.goto(url)
            page.wait_for_selector("body[data-ready]")
            network = page.context.new_cdp_session(page)
            network.send(
                "Network.emulateNetworkConditions",
                {
                    "offline": False,
                    "latency": 0,
                    "downloadThroughput": -1,
                    "uploadThroughput": BYTES_A_SECOND,
                },
            )
            page.evaluate(HOLD)
            page.set_input_files("#files", [str(name) for name in names])
            ended = {"queued", "running", "done"}
            until(lambda: len(ended.intersection(states(page))) > 0, WAIT_SECONDS)
            console.kill()
            redis.kill()
            page.evaluate("window.letGo()")
        assert {"uploading", "waiting"} & set(states(page))
        page.locator("#banner.wrong").wait_for()  # it says that nobody answers
        redis.start()
        with (
            console_process(tmp_path, redis.url, store, "again", **settings),
            worker_process(
                tmp_path, redis.url, store, "worker-again", **of_store, EMO_LEASE_SECONDS="3"
            ),
        ):
            until(lambda: states(page) == ["done"] * FILES, WAIT_SECONDS)
            anew = chromium.new_page()
            anew.set_default_timeout(WAIT_SECONDS * 1000)
            anew.goto(page.url)
            until(lambda: states(anew) == ["done"] * FILES, WAIT_SECONDS)
            assert anew.locator("#toolbar p").inner_text() == f"{FILES} recordings · {FILES} done"
    whole_files = [file for file in store.rglob("*") if file.is_file()]
    assert [file.stat().st_size for file in whole_files] == [len(whole)] * FILES
