"""The web console in a real browser, with a real worker behind it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from tests.support.console import ConsoleProcess, console_process, large_wav
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.worker_process import SAMPLES, worker_process

LARGE_SECONDS = 8  # 20 MiB at the highest rate that WAV files have in earnest
WAIT_MS = 120_000
PHONE = {"width": 390, "height": 844}
CALL = [str(SAMPLES / "dialogue_it.ogg")]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One server."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def console(chromium: Any, redis: EmbeddedRedis, place: Path) -> Iterator[ConsoleProcess]:
    """A console, and a worker."""
    settings = {"EMO_OUTPUT_STORE": place.as_uri(), "EMO_CONSOLE_HOSTS": "desk.test"}
    with (
        worker_process(place, redis.url, place / "store"),
        console_process(place, redis.url, place / "store", **settings) as served,
    ):
        yield served


@pytest.fixture
def page(chromium: Any, console: ConsoleProcess) -> Iterator[Open]:
    """Open a page; at the end nothing was asked of any other host, and no script has failed.

    Neither by the page, nor by the console itself.
    """
    contexts: list[Any] = []
    asked: list[str] = []
    faults: list[str] = []

    def make(path: str = "/", *, url: str = console.url, ready: bool = True, **options: Any) -> Any:
        contexts.append(chromium.new_context(**options))
        opened = contexts[-1].new_page()
        opened.set_default_timeout(WAIT_MS)
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on(
            "console",
            lambda said: faults.append(said.text) if "Content Security Policy" in said.text else 0,
        )
        opened.goto(url.rstrip("/") + path)
        if ready:
            opened.wait_for_selector("body[data-ready]")
        return opened

    yield make
    for context in contexts:
        context.close()
    ours = ("http://127.0.0.1:", "http://desk.test:", "blob:")
    others = [url for url in asked if not url.startswith(ours)]
    assert asked and others == []
    assert console.asked() == {"127.0.0.1"}
    assert faults == []


def done(page: Any, count: int) -> Any:
    """The cards of that many recordings that have ended well, waiting for them."""
    cards = page.locator(".card[data-state=done]")
    cards.nth(count - 1).wait_for()
    return cards


def test_several_large_files_are_sent_together(page: Open, place: Path) -> None:
    """In parts, side by side; and the same address shows them again."""
    opened = page()
    whole = large_wav(LARGE_SECONDS)
    assert len(whole) > 17 * 1024**2
    files = [place / name for name in ("one.wav", "two.wav", "three.wav")]
    for file in files:
        file.write_bytes(whole)
    held: list[Any] = []  # until its progress was seen
    opened.route(
        "**/api/uploads/*/*/1",
        lambda route: held.append(route),  # noqa: PLW0108 (playwright takes no built-in method)
    )
    opened.set_input_files("#files", files)
    opened.locator("progress").first.wait_for()
    opened.unroute("**/api/uploads/*/*/1")
    for route in held:
        route.continue_()
    cards = done(opened, 3)
    assert "batch=" in opened.url
    anew = page(opened.url.partition("/?")[2].join(["/?", ""]))
    assert done(anew, 3).count() == cards.count() == 3
    assert anew.locator("#toolbar p").inner_text() == "3 recordings · 3 done"


def test_a_result_has_nine_bars_and_its_job(page: Open) -> None:
    """The label in words, every score, and how to look it up by hand."""
    opened = page()
    opened.set_input_files("#files", [str(SAMPLES / "calm_en.wav")])
    card = done(opened, 1).first
    assert card.locator(".scores li").count() == 9
    assert card.locator(".verdict strong").inner_text() == "neutral"
    card.get_by_role("button", name="Details").click()
    job, line = card.locator(".facts code").all_inner_texts()
    assert line.endswith(f"HGETALL emo:result:{job}")
    assert line.startswith("redis-cli -p ")


def test_a_call_is_shown_channel_by_channel(page: Open) -> None:
    """Its waveform, its turns, a click that plays, and a turn that is corrected."""
    opened = page()
    opened.select_option("#channel", "each")
    opened.set_input_files("#files", CALL)
    card = done(opened, 1).first
    card.get_by_role("button", name="Details").click()
    timeline = card.locator(".emo-timeline")
    timeline.wait_for()
    assert timeline.locator("tbody tr").count() == 2
    audio = timeline.locator("audio")
    audio.wait_for(state="attached")
    assert audio.get_attribute("src").endswith("/preview")
    timeline.locator("canvas:visible").first.wait_for()
    row = timeline.locator("tbody tr").last
    row.get_by_role("button", name="Wrong label?").click()
    row.get_by_label("It should be").select_option("happy")
    row.get_by_role("button", name="Save").click()
    row.get_by_text("Kept as a correction").wait_for()


def test_a_failure_says_what_to_do(page: Open, place: Path) -> None:
    """The error, the advice, and a button to try again."""
    broken = place / "<img src=x onerror=alert(1)>.wav"
    broken.write_bytes(b"no audio" * 100)
    opened = page()
    opened.set_input_files("#files", [str(broken)])
    card = opened.locator(".card[data-state=failed]")
    card.wait_for()
    assert card.locator("h2").inner_text() == broken.name  # and no image of it
    assert "What to do" in card.locator(".advice").inner_text()
    assert card.locator(".error").inner_text()
    card.get_by_role("button", name="Try again").click()
    card.locator(".chip", has_text="failed").wait_for()
    (place / "page.html").write_text("<p>no audio</p>")
    opened.set_input_files("#files", [str(place / "page.html")])
    assert "does not say that it is audio" in opened.locator("#banner").inner_text()


def test_the_microphone_is_recorded(page: Open) -> None:
    """Chromium's own beeps, from the button to the result."""
    opened = page(permissions=["microphone"])
    opened.click("#record")
    opened.locator("#recorder .clock", has_text="1.").wait_for()
    opened.get_by_role("button", name="Stop and send").click()
    card = done(opened, 1).first
    assert card.locator("h2").inner_text().startswith("recording-")


def test_over_plain_http_from_another_host_it_says_why(page: Open, console: ConsoleProcess) -> None:
    """The browser gives such a page no microphone."""
    opened = page(url=console.url.replace("127.0.0.1", "desk.test"))
    assert opened.locator("#record").is_disabled()
    assert "plain HTTP from desk.test" in opened.locator("#microphone-why").inner_text()
    assert opened.locator("#choose").is_enabled()


def test_the_live_view_pauses_a_lane(page: Open, redis: EmbeddedRedis) -> None:
    """With the workers that are there, and what failed lately."""
    opened = page("/#live")
    opened.locator("[data-worker]").wait_for()
    assert opened.locator("[data-worker] .chip").inner_text() == "ready"
    row = opened.locator("[data-lane=bulk]")
    row.get_by_role("button").click()
    row.get_by_text("paused for").wait_for()
    row.get_by_role("button", name="Resume").click()
    row.get_by_role("button", name="Pause").wait_for()


def test_the_live_view_cancels_what_waits_by_its_cause(page: Open, redis: EmbeddedRedis) -> None:
    """By a button that says how many; afterwards it is gone."""
    with connect(redis.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        fields = {"status": "retrying", "error_code": "storage_unavailable"}
        client.hset("emo:result:waits", mapping=fields)
        client.hset("emo:delayed:waits", mapping={"key": "a.wav", "_lane": "normal"})
        client.zadd("emo:delayed", {"waits": 4e12})  # in a hundred years
        opened = page("/#live", viewport=PHONE)
        row = opened.locator("[data-cause=storage_unavailable]")
        row.get_by_role("button", name="Cancel 1 waiting").click()
        row.wait_for(state="detached")
        assert client.hget("emo:result:waits", "status") == b"cancelled"


def test_the_page_speaks_chinese(page: Open, place: Path) -> None:
    """Where the browser does, and at the push of a button; a failure has its heading in it."""
    opened = page(locale="zh-CN")
    assert opened.locator("h1").inner_text() == "把录音拖到这里"
    assert opened.locator("html").get_attribute("lang") == "zh-Hans"
    opened.set_input_files("#files", [str(SAMPLES / "calm_en.wav")])
    assert done(opened, 1).locator(".verdict strong").inner_text() == "中立"
    (place / "broken.wav").write_bytes(b"no audio" * 100)
    opened.set_input_files("#files", [str(place / "broken.wav")])
    card = opened.locator(".card[data-state=failed]")
    assert card.locator(".fault").inner_text() == "不是可读取的音频"
    assert card.locator(".error").get_attribute("lang") == "en"
    assert "请先在别处播放确认" in card.locator(".advice").inner_text()
    opened.get_by_role("button", name="English").click()
    assert opened.locator(".verdict strong").inner_text() == "neutral"
    assert opened.locator("h1").inner_text() == "Drop recordings here"


def test_a_phone_shows_all_of_it(page: Open) -> None:
    """Nothing is wider than its screen, in either view."""
    opened = page(viewport=PHONE)
    opened.select_option("#channel", "each")
    opened.set_input_files("#files", CALL)
    card = done(opened, 1).first
    card.get_by_role("button", name="Details").click()
    card.locator(".emo-timeline").wait_for()
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    opened.click("#tab-live")
    opened.locator("[data-worker]").wait_for()
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_it_is_used_by_keyboard(page: Open) -> None:
    """From the skip link to the views; and what ends is said aloud."""
    opened = page()
    opened.keyboard.press("Tab")
    assert opened.evaluate("() => document.activeElement.className") == "skip"
    opened.locator("#tab-recordings").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#tab-live").get_attribute("aria-selected") == "true"
    assert opened.locator("#live").is_visible()
    opened.keyboard.press("ArrowLeft")
    opened.set_input_files("#files", [str(SAMPLES / "calm_en.wav")])
    done(opened, 1)
    assert opened.locator("#spoken").inner_text().startswith("calm_en.wav: neutral")


def test_a_login_is_asked_for(page: Open, redis: EmbeddedRedis, place: Path) -> None:
    """A wrong password is said to be one; the right one shows the page that was asked for."""
    settings = {"EMO_CONSOLE_PASSWORD": "a long enough one", "EMO_CONSOLE_WRITE": "false"}
    with console_process(place, redis.url, place / "store", "guarded", **settings) as guarded:
        opened = page("/?batch=nothing", url=guarded.url, ready=False)
        opened.fill("#password", "a wrong one")
        opened.keyboard.press("Enter")
        opened.get_by_text("That is not the password").wait_for()
        opened.fill("#password", "a long enough one")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("body[data-ready]")
        assert opened.url.endswith("/?batch=nothing")
        assert opened.locator("#read-only").is_visible()
        assert opened.locator("#send").is_hidden()
        opened.click("#logout")
        opened.locator("#password").wait_for()
        assert guarded.stop() == 0


def test_what_was_cut_off_is_gone_on_with(page: Open, place: Path) -> None:
    """A tab that was closed too early: its file is chosen again, and no part is sent twice."""
    opened = page()
    (place / "cut.wav").write_bytes(large_wav(LARGE_SECONDS))
    opened.route("**/api/uploads/*/*/1", lambda route: route.abort())  # its second part
    opened.set_input_files("#files", [str(place / "cut.wav")])
    opened.locator("progress").wait_for()
    opened.get_by_text("waiting to go on").wait_for()
    address = opened.url.partition("/?")[2]
    opened.close()
    anew, sent = page(f"/?{address}"), []
    anew.get_by_text("Choose the file again").wait_for()
    anew.on("request", lambda request: sent.append(request) if request.method == "PUT" else None)
    watching = page(f"/?{address}")
    anew.set_input_files("#files", [str(place / "cut.wav")])
    done(anew, 1)
    assert [request.url.rpartition("/")[2] for request in sent] == ["1", "2"]
    done(watching, 1)  # a third one sees it too
