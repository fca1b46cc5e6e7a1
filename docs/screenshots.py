"""Draw the pictures of the console anew: `python -m docs.screenshots`.

Needs Debian's `chromium` and a font with Chinese, such as `fonts-wqy-microhei`. The console, the
worker and what becomes of the recordings are real. The model is the bundled one, which is
untrained: so labels and scores are made up, and so are jobs and workers of the live view.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from producer.client import Client
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.queue.workers import Value, Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane, Status
from tests.support.audio_files import encode
from tests.support.console import browser, console_process
from tests.support.stream_workers import begin_one, new_streams
from tests.support.timeline_site import Said, conversation, speech
from tests.support.worker_process import SAMPLES, worker_process

IMAGES = Path(__file__).with_name("images")
DESKTOP, PHONE = {"width": 1180, "height": 860}, {"width": 390, "height": 844}
SPEAKERS = ("agent", "customer")
CALL_SECONDS, LOOKS = 56, 90
KEYS = Keys("emo")
GPU: dict[str, Value] = {
    **{"gpu_name": "NVIDIA A10", "gpu_uuid": "GPU-1", "gpu_utilization": 0.87, "gpu_w": 141.5},
    **{"gpu_memory_used_bytes": 6_100_000_000, "gpu_memory_total_bytes": 24_000_000_000},
    **{"gpu_celsius": 61, "gpu_verdict": "healthy", "gpu_reason": "its device works all the time"},
}
WORKER: dict[str, Value] = {
    **{"state": "ready", "version": "0.1.0", "model": "iic/emotion2vec_plus_large", "pid": 17},
    **{"capacity": 1024, "period_s": 7.5},
}
DEAD = {"error_code": "storage_unavailable", "error": "no answer"}
REFUSED = {"error_code": "not_audio", "error": "not audio"}


def draw() -> None:
    """All of them. Raises SystemExit where Chinese would be drawn as boxes."""
    fonts = subprocess.run(["fc-list", ":lang=zh"], capture_output=True, check=False).stdout
    if not fonts:
        raise SystemExit("NO font with Chinese here: install Debian's `fonts-wqy-microhei`")
    with (
        tempfile.TemporaryDirectory() as directory,
        EmbeddedRedis(Path(directory) / "redis") as server,
        connect(server.url, name="screenshots") as client,
        browser() as chromium,
    ):
        place = Path(directory)
        (place / "store").mkdir()
        settings = {"EMO_OUTPUT_STORE": place.as_uri()}
        with console_process(place, server.url, place / "store", **settings) as console:

            @contextmanager
            def page(path: str, **options: Any) -> Iterator[Any]:
                context = chromium.new_context(**{"viewport": DESKTOP, "locale": "en", **options})
                opened = context.new_page()
                opened.goto(console.url + path)
                opened.wait_for_selector("body[data-ready]")
                yield opened
                context.close()

            with worker_process(place, server.url, place / "store"), page("/") as opened:
                batch = _send(opened, place, client)
            with page(batch) as opened:
                opened.locator(".card[data-state=done]").nth(1).wait_for()
                _save(opened, "recordings")
                _show_call(opened, below=121)
                _save(opened, "call")
            phone = {"viewport": PHONE, "locale": "zh-CN", "color_scheme": "dark"}
            with page(batch, **phone) as opened:
                _show_call(opened, below=71)
                _save(opened, "phone")
            _be_busy(server.url, client)
            with page("/#live") as opened:
                for look in range(LOOKS):
                    _speak(client, look)
                    time.sleep(1)  # a point of its curves for each look
                _save(opened, "live", full_page=True)


def _send(page: Any, place: Path, client: Any) -> str:
    """A call with its turns, a voice mail and what is no audio; returns where they are shown."""
    call = conversation(CALL_SECONDS)
    sound = speech(call, CALL_SECONDS)
    turns = [{**each.told(speaker=SPEAKERS[each.channel], channel=each.channel)} for each in call]
    asked = ("start_s", "end_s", "speaker", "channel")
    listed = [{name: turn[name] for name in asked} for turn in turns]
    (place / "turns.json").write_text(json.dumps(listed))
    file = encode(sound, 16_000, container="ogg", codec="libopus", layout="stereo")
    (place / "call-0412.ogg").write_bytes(file)
    (place / "voicemail-17.mp3").write_bytes((SAMPLES / "excited_en.mp3").read_bytes())
    (place / "notes.mp3").write_bytes(b"no audio" * 1000)
    page.locator("#segments").evaluate("one => { one.value = 'file'; }")
    page.set_input_files("#turns-file", str(place / "turns.json"))
    page.locator("#turns-said", has_text="turns").wait_for()
    page.set_input_files("#files", str(place / "call-0412.ogg"))
    page.locator(".card[data-state=done]").wait_for()
    page.select_option("#segments", "")
    for name in ("voicemail-17.mp3", "notes.mp3"):
        page.set_input_files("#files", str(place / name))
    page.locator(".card[data-state=failed]").wait_for()
    page.locator(".card[data-state=done]").nth(1).wait_for()
    for name, said in (("call", Said(0, 0, 0, "neutral", 0.46)), ("voice", _HAPPY)):
        _make_up(client, page, name, said, turns if name == "call" else None)
    return f"/?{page.url.partition('/?')[2]}"


_HAPPY = Said(0, 0, 0, "happy", 0.83)


def _make_up(
    client: Any, page: Any, name: str, said: Said, turns: list[dict[str, Any]] | None
) -> None:
    """Other scores for the recording whose name begins so."""
    body = page.locator(".card", has_text=name).locator(".body").get_attribute("id")
    key, told = KEYS.result(body.partition("-")[2]), said.told()
    rest = [0.41, 0.24, 0.15, 0.08, 0.05, 0.04, 0.02, 0.01]
    others = [label for label in told["scores"] if label != said.label]
    left = dict(zip(others, ((1 - said.score) * each for each in rest), strict=True))
    fields = {
        **{"label": said.label, "score": said.score},
        "scores": json.dumps({said.label: said.score, **left}),
    }
    if turns is not None:
        fields["segments"] = json.dumps(turns)
    client.hset(key, mapping=fields)
    client.hdel(key, "warning")  # of the untrained model


def _show_call(page: Any, *, below: int) -> None:
    """With its details open, so many pixels below the top."""
    card = page.locator(".card", has_text="call-0412")
    card.get_by_role("button").last.click()
    card.locator("canvas:visible").first.wait_for()
    page.wait_for_load_state("networkidle")
    card.evaluate(f"one => scrollTo(0, one.getBoundingClientRect().top + scrollY - {below})")


def _be_busy(url: str, client: Any) -> None:
    """Jobs of every kind, by workers that are not there; those of the recordings are forgotten."""
    client.delete(KEYS.results, KEYS.workers)
    streams = new_streams(JobStreams, client, KEYS, "gpu-1", 3600)

    def began(number: int) -> Any:
        client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": f"call-{4700 + number}"})
        return begin_one(streams)

    code = DEAD["error_code"]
    done = Ending(Status.DONE, {"label": "neutral", "score": "0.8"})
    dead, failed = Ending(Status.DEAD, DEAD, dead_reason=code), Ending(Status.FAILED, REFUSED)
    ends = [*[done] * 40, dead, *[done] * 20, *[failed] * 2] * 5
    for number, end in enumerate(ends):
        streams.finish([(began(number), end)])
    for number in range(400, 412):
        streams.retry(began(number), delay_seconds=900, code=code, message="no answer")
    for number in range(500, 531):
        began(number)
    for lane, jobs in ((Lane.NORMAL, 412), (Lane.BULK, 908)):
        for _ in range(jobs):
            client.xadd(KEYS.lane(lane), {"key": "a.wav"})
    with Client(url) as queue:
        queue.operator.pauses.pause(Lane.BULK)


def _speak(client: Any, look: int) -> None:
    """What two workers say."""
    wave = (0.97, 0.8, 0.58, 0.71, 0.88, 0.95)[look // 7 % 6] + 0.02 * (look % 3)
    gpu: dict[str, Value] = {
        **{"host": "gpu-1", "dtype": "float16", "device": "cuda:0", "in_flight": 27},
        **{"clips_per_s": 210.0 * wave, "audio_s_per_s": 1021.0 * wave, "latency_ms": 412},
        **{"tape_fill": 0.93, "device_share": 0.98},
    }
    cpu: dict[str, Value] = {
        **{"host": "office-3", "dtype": "float32", "device": "cpu", "in_flight": 4},
        **{"clips_per_s": 2.1 * wave, "audio_s_per_s": 9.8 * wave, "latency_ms": 1811},
        **{"tape_fill": 0.71, "device_share": 0.99},
    }
    Words(client, KEYS, "gpu-1", lease_seconds=30).tell({**WORKER, **GPU, **gpu})
    Words(client, KEYS, "office-3", lease_seconds=30).tell({**WORKER, **cpu})


def _save(page: Any, name: str, *, full_page: bool = False) -> None:
    page.mouse.move(0, 0)
    file = IMAGES / f"console-{name}.png"
    page.screenshot(path=file, animations="disabled", full_page=full_page)


if __name__ == "__main__":
    draw()
