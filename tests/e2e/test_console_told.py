"""What a page says of what goes wrong, and of what it does not show: once, in a few words."""

from pathlib import Path
from typing import Any

from storage.queue.workers import Words
from tests.support.console_pages import KEYS, WORKER, Open


def test_many_files_that_are_none_are_said_in_a_few_words(page: Open, place: Path) -> None:
    """Given a folder of other things, some are named, and the others counted."""
    files = [place / f"note-{number}.txt" for number in range(12)]
    for file in files:
        file.write_text("no sound")
    opened = page("/")
    opened.set_input_files("#files", [str(file) for file in files])
    said = opened.locator("#banner", has_text="And 7 more.").inner_text()
    assert said.count("note-") == 5


def test_an_outage_is_said_once(page: Open) -> None:
    """Given a page that asks each second, who hears it is not told each second."""
    opened = page("/#live")
    opened.locator(".live-lanes tr").first.wait_for()
    opened.evaluate(
        "() => { window.said = 0; new MutationObserver(() => { said += 1; })"
        ".observe(document.getElementById('banner'), { childList: true }); }"
    )
    opened.route("**/api/live", lambda route: route.abort())
    for _ in range(3):
        opened.wait_for_event("requestfailed")
    opened.locator("#banner", has_text="does not answer").wait_for()
    assert opened.evaluate("said") == 1


def test_figures_grow_old_while_nobody_answers(page: Open) -> None:
    """Given a connection that is lost without a word, the page says of when its figures are."""
    opened = page("/#live")
    opened.locator(".live-lanes tr").first.wait_for()
    opened.clock.install()
    opened.route("**/api/live", lambda _: None)  # nobody hears of it
    with opened.expect_request("**/api/live"):
        opened.clock.run_for(1000)
    opened.clock.run_for(5000)
    opened.locator(".stale", has_text="ago").wait_for()
    opened.clock.run_for(5000)
    opened.locator("#banner", has_text="does not answer").wait_for()


def test_workers_that_are_not_shown_are_counted(page: Open, queue: Any) -> None:
    """Given more than a hundred, the sums are said to be of some."""
    for number in range(101):
        told = {**WORKER, "host": f"host-{number}", "clips_per_s": 2.0}
        Words(queue, KEYS, f"w-{number}", lease_seconds=600).tell(told)
    opened = page("/#live")
    opened.get_by_role("heading", name="Workers: 100 of 101").wait_for()
    assert opened.locator(".tile dd").first.inner_text() == "≥ 200"


def test_a_login_that_is_refused_says_why(page: Open) -> None:
    """Given a proxy that changes the page's name, it is not the console that does not answer."""
    refusal = {"error": "wrong_origin", "message": "another site's page may change nothing here"}
    opened = page("/")
    opened.route("**/api/login", lambda route: route.fulfill(status=403, json=refusal))
    opened.goto(opened.url.rstrip("/") + "/static/login.html")
    opened.get_by_label("Password").fill("a long enough one")
    opened.keyboard.press("Enter")
    opened.locator("#said", has_text="may change nothing here").wait_for()
