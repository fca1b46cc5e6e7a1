"""What a page does with the eye, the focus and the words of whoever works with it, in a browser."""

import os
from pathlib import Path
from typing import Any

import pytest

from storage.objects.transfers import PART_BYTES
from storage.queue.workers import Words
from storage.redis.embedded import EmbeddedRedis
from tests.support.console import ConsoleProcess, console_process
from tests.support.console_pages import DONE, KEYS, WORKER, Open, end, end_next
from tests.support.stream_workers import DEAD

STALLED_MS = 121_000  # a little more than a page waits for a sign
PHONE = {"width": 390, "height": 844}
FOCUSED = "() => document.activeElement === document.body ? '' : document.activeElement.outerHTML"


def test_what_is_looked_at_stays_where_it_is(page: Open, queue: Any) -> None:
    """New figures neither scroll a wide table back, nor take the focus out of it."""
    words = Words(queue, KEYS, "one", lease_seconds=600)
    words.tell({**WORKER, "host": "office", "in_flight": 1})
    opened = page("/#live", viewport=PHONE)
    table = opened.locator(".live-workers .scroll")
    table.focus()
    assert table.evaluate("table => (table.scrollLeft = 150, table.scrollLeft)") == 150
    words.tell({**WORKER, "host": "office", "in_flight": 2})
    opened.locator("[data-worker] td.number", has_text="2").first.wait_for()
    assert table.evaluate("table => table.scrollLeft") == 150
    assert table.evaluate("table => table === document.activeElement")


def test_a_link_keeps_the_focus_while_failures_come(
    page: Open, queue: Any, server: EmbeddedRedis
) -> None:
    """As long as it is shown."""
    end(server.url, queue, "first", DEAD)
    opened = page("/#live")
    link = opened.locator(".live-failures a")
    link.wait_for()
    link.focus()
    end(server.url, queue, "second", DEAD)
    opened.locator(".live-failures a", has_text="second").wait_for()
    assert "job=first" in opened.evaluate(FOCUSED)


def test_what_became_of_a_replay_can_be_read(page: Open, queue: Any, server: EmbeddedRedis) -> None:
    """Also when the next look has other figures."""
    end(server.url, queue, "first", DEAD)
    opened = page("/#live")
    opened.get_by_role("button", name="Replay 1 dead").click()
    said = opened.get_by_text("1 replayed, 0 not")
    said.wait_for()
    end_next(queue, DEAD)
    opened.get_by_role("button", name="Replay 2 dead").wait_for()
    assert said.is_visible()


def test_workers_of_one_machine_are_told_apart(page: Open, queue: Any) -> None:
    """By their names, where the machine's would be the same."""
    for name in ("office-17-a", "office-18-b", "attic-9-c"):
        told = {**WORKER, "host": name.partition("-")[0]}
        Words(queue, KEYS, name, lease_seconds=600).tell(told)
    opened = page("/#live")
    opened.locator("[data-worker]").nth(2).wait_for()
    names = opened.locator("[data-worker] .name").all_inner_texts()
    assert sorted(names) == ["attic", "office-17-a", "office-18-b"]


def test_a_link_that_cannot_be_copied_is_not_said_to_be(
    page: Open, console: ConsoleProcess, queue: Any, place: Path
) -> None:
    """Browsers give a page that came over plain HTTP no clipboard: it shows the link, selected.

    It stays so while recordings end.
    """
    opened = page("/", url=console.url.replace("127.0.0.1", "desk.test"))
    (place / "a.wav").write_bytes(b"sound")
    opened.set_input_files("#files", [str(place / "a.wav")])
    opened.locator(".card[data-state=queued]").wait_for()
    assert opened.evaluate("() => typeof navigator.clipboard") == "undefined"
    opened.get_by_role("button", name="Copy link").click()
    opened.get_by_role("button", name="Selected: copy it by hand").wait_for()
    selected = "() => getSelection().toString()"
    assert opened.evaluate(selected).startswith("http://desk.test")
    end_next(queue, DONE)
    opened.locator(".card[data-state=done]").wait_for()
    assert opened.evaluate(selected).startswith("http://desk.test")


def test_a_recording_that_ends_keeps_the_focus(page: Open, queue: Any, place: Path) -> None:
    """On the button that was pressed last, or else on the first of its own."""
    opened = page("/")
    (place / "a.wav").write_bytes(b"sound")
    opened.set_input_files("#files", [str(place / "a.wav")])
    opened.locator(".card[data-state=queued]").get_by_role("button", name="Cancel").focus()
    end_next(queue, DONE)
    opened.locator(".card[data-state=done]").wait_for()
    assert "aria-expanded" in opened.evaluate(FOCUSED)


def test_a_correction_keeps_the_focus(page: Open, queue: Any, server: EmbeddedRedis) -> None:
    """On what it says, which is read aloud, instead of at the top of the page."""
    end(server.url, queue, "done", DONE)
    opened = page("/?job=done")
    opened.get_by_role("button", name="Wrong label?").click()
    opened.get_by_label("It should be").select_option("sad")
    opened.get_by_role("button", name="Save").click()
    opened.get_by_text("Kept as a correction").wait_for()
    assert "Kept as a correction" in opened.evaluate(FOCUSED)


def test_a_user_without_rights_is_no_outage(
    chromium: Any, queue: Any, server: EmbeddedRedis, place: Path
) -> None:
    """The page says whose rights are missing, and does not wait for Redis to come back."""
    rights = "~emo:* -@all +@read +@connection +@scripting +info +time +select"
    queue.execute_command("ACL", "SETUSER", "looks", "on", ">hush", *rights.split())
    url = server.url.replace("redis://", "redis://looks:hush@")
    with console_process(place, url, place / "store", "poor") as poor:
        opened = chromium.new_page()
        opened.set_default_timeout(60_000)
        opened.goto(poor.url)
        opened.wait_for_selector("body[data-ready]")
        (place / "a.wav").write_bytes(b"sound")
        opened.set_input_files("#files", [str(place / "a.wav")])
        card = opened.locator(".card[data-state=refused]")
        assert "emo-operator" in card.locator(".advice").inner_text()
        assert "'hset'" in card.locator(".error").inner_text()
        opened.click("#tab-live")
        opened.locator("[data-lane=bulk] button").click()
        opened.locator("#live [role=status]", has_text="emo-operator").wait_for()
        opened.close()


def test_another_file_of_that_name_and_size_is_another_recording(page: Open, place: Path) -> None:
    """It does not go on with the one that was cut off: half of each would be heard as one."""
    files = [place / each / "call.wav" for each in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_bytes(bytes([number]) * (PART_BYTES + 1))
        os.utime(file, (1e9 + number, 1e9 + number))
    opened = page("/")
    opened.route("**/api/uploads/*/*/1", lambda route: route.abort())
    opened.set_input_files("#files", [str(files[0])])
    opened.get_by_text("waiting to go on").wait_for()
    anew = page(f"/?{opened.url.partition('/?')[2]}")
    opened.close()
    anew.get_by_text("Choose the file again").wait_for()
    for file in reversed(files):
        anew.set_input_files("#files", [str(file)])
        anew.locator(".card[data-state=queued]").nth(files[::-1].index(file)).wait_for()
    assert anew.locator(".card").count() == 2
    stored = [file.read_bytes() for file in (place / "store").rglob("call.wav")]
    assert sorted(stored) == [file.read_bytes() for file in files]


@pytest.mark.parametrize("silent", ["1", "finish"])
def test_what_stands_still_is_sent_again(silent: str, page: Open, place: Path) -> None:
    """Given a connection that is lost without a word, the page does not wait for it for ever."""
    opened = page("/")
    held: list[Any] = []
    opened.clock.install()
    file = place / f"still-{silent}.wav"
    file.write_bytes(bytes(PART_BYTES + 1))

    def hold_first(route: Any) -> None:
        if held:
            route.continue_()
        held.append(route)  # nobody hears of the first

    opened.route(f"**/api/uploads/*/*/{silent}", hold_first)
    with opened.expect_request(f"**/api/uploads/*/*/{silent}"):
        opened.set_input_files("#files", [str(file)])
    opened.clock.fast_forward(STALLED_MS)
    opened.locator(".card[data-state=queued]").wait_for()
    assert len(held) == 2


def test_a_page_that_only_sends_says_that_nobody_answers(page: Open, place: Path) -> None:
    """And takes it back."""
    opened = page("/")
    opened.route("**/api/**", lambda route: route.abort())
    (place / "unheard.wav").write_bytes(b"sound")
    opened.set_input_files("#files", [str(place / "unheard.wav")])
    opened.locator("#banner", has_text="does not answer").wait_for()
    opened.unroute("**/api/**")
    opened.locator(".card[data-state=queued]").wait_for()
    opened.locator("#banner").wait_for(state="hidden")


def test_a_part_that_is_given_up_before_it_is_sent_ends(page: Open) -> None:
    """Given a recording cancelled between two parts, its place is free for the next one."""
    ended = page("/").evaluate(
        """async () => {
            const { send } = await import("/static/api.js");
            const sent = send("/api/none", new Blob(["a"]), { signal: AbortSignal.abort() });
            const late = new Promise((resolve) => setTimeout(resolve, 3000, "it never ends"));
            return Promise.race([sent, late]).catch((error) => error.name);
        }"""
    )
    assert ended == "AbortError"
