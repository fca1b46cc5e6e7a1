"""The web console under load: `python -m bench.console [--minutes 10]`.

Three files of 100 MB sent together from one page, and what the console's memory did; then a
thousand jobs with the live view open, and for how long the page was not answering.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from producer.client import Client, new_job
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.support.console import ConsoleProcess, browser, console_process, large_wav
from tests.support.polling import until
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.stream_workers import new_streams

FILES, FILE_SECONDS = 3, 45  # of 100 MB each
JOBS, BATCH = 1000, "bench"
DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": '{"happy":0.9,"sad":0.1}'})
# How long the page could not answer: a timer that should run every 50 ms.
_WATCH = """() => {
  window.worst = 0;
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    window.worst = Math.max(window.worst, now - last - 50);
    last = now;
  }, 50);
}"""


@contextmanager
def worker(url: str, jobs_a_second: float) -> Iterator[None]:
    """Something that ends jobs at that rate."""
    over = threading.Event()
    with connect(url, name="bench") as client:
        streams = new_streams(JobStreams, client, Keys("emo"), "bench", 30)

        def work() -> None:
            while not over.wait(1 / jobs_a_second):
                begun = streams.begin(streams.read_blocking(1, block_seconds=0.05))
                streams.finish([(each, DONE) for each in begun])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def memory_mb(console: ConsoleProcess) -> float:
    """What the console holds."""
    return float(psutil.Process(console.pid).memory_info().rss) / 1e6


def send_large_files(page: Any, console: ConsoleProcess, place: Path) -> None:
    """Print how long it took, and the memory before, at its most and afterwards."""
    whole = large_wav(FILE_SECONDS)
    names = [place / f"{number}.wav" for number in range(FILES)]
    for name in names:
        name.write_bytes(whole)
    before = most = memory_mb(console)
    began = time.perf_counter()
    page.set_input_files("#files", [str(name) for name in names])
    sent = page.locator(".card:is([data-state=queued], [data-state=done])")
    while sent.count() < FILES:
        most = max(most, memory_mb(console))
        time.sleep(0.05)  # memory is sampled, not waited for
    seconds = time.perf_counter() - began
    print(
        f"{FILES} files of {len(whole) / 1e6:.0f} MB: {seconds:.1f} s; console {before:.0f} MB "
        f"before, {most:.0f} MB at most, {memory_mb(console):.0f} MB after"
    )


def watch_live(chromium: Any, console: ConsoleProcess, url: str, minutes: float) -> None:
    """Print the console's memory each minute while a thousand jobs go by."""
    listed, live = chromium.new_page(), chromium.new_page()
    with Client(url) as client:
        files = client.operator.files
        jobs = [new_job("a.wav", job=f"{number:032x}") for number in range(JOBS)]
        for submitted in client.batch(BATCH).submit_many(jobs):
            files.note(BATCH, submitted.job_id, {"name": submitted.job_id, "state": "sent"})
    for page, path in ((listed, f"/?batch={BATCH}"), (live, "/#live")):
        page.goto(console.url.rstrip("/") + path)
        page.wait_for_selector("body[data-ready]")
        page.evaluate(_WATCH)
    began = time.monotonic()
    with worker(url, max(2.0, JOBS / (60 * minutes))):
        held = []
        while (passed := time.monotonic() - began) < 60 * minutes:
            held.append(memory_mb(console))
            print(f"{passed:5.0f} s: console {held[-1]:.1f} MB")
            time.sleep(min(60.0, 60 * minutes))  # a sample a minute
        counted = until(lambda: "1,000 done" in listed.locator("#toolbar p").inner_text() or 0, 120)
    worst = [page.evaluate("() => window.worst") for page in (listed, live)]
    print(f"all done: {bool(counted)}; console {held[0]:.1f} MB to {memory_mb(console):.1f} MB")
    print(f"longest without an answer: list {worst[0]:.0f} ms, live {worst[1]:.0f} ms")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        place = Path(folder)
        (place / "s3" / "audio").mkdir(parents=True)
        keys = {"EMO_S3_ACCESS_KEY": ACCESS_KEY, "EMO_S3_SECRET_KEY": SECRET_KEY}
        with (
            EmbeddedRedis(place / "redis") as redis,
            s3_server(place / "s3") as s3,
            console_process(place, redis.url, s3.url("audio"), **keys) as console,
        ):
            page = chromium.new_page()
            page.goto(console.url)
            page.wait_for_selector("body[data-ready]")
            send_large_files(page, console, place)
            page.close()
            watch_live(chromium, console, redis.url, minutes)


if __name__ == "__main__":
    main()
