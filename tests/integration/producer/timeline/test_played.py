"""The timeline in a real browser: played by mouse and keyboard, heard, and gone when it is."""

import pytest
from playwright.sync_api import expect

from tests.support.timeline_page import (
    CALL,
    NAMES,
    SECONDS,
    Open,
    box_of,
    position,
    ready,
    slow_down,
    stage,
)


def test_a_click_plays_from_there(show: Open) -> None:
    """Anywhere in the lanes; the playhead and the list show where it is, and it can be paused."""
    page = show()
    ready(page)
    slow_down(page, 0.2)
    box = box_of(stage(page))
    page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 60)
    heard = "timeline.playing && timeline.position > 38.5 && timeline.position"
    assert page.wait_for_function(heard).json_value() < 42
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function("!timeline.playing && !timeline.stage.frame")
    head = box_of(page.locator(".et-head"))
    assert head["x"] - box["x"] == pytest.approx(box["width"] * position(page) / SECONDS, abs=3)
    now = [one for one in CALL if one.start_s <= position(page) < one.end_s]
    assert page.locator("tr[aria-current]").count() == len(now)


def test_the_browser_knows_how_long_it_is_and_goes_to_the_moment(show: Open) -> None:
    """The preview is as long as the audio within a frame, and only what is needed is fetched."""
    page = show()
    ready(page)
    assert page.evaluate("timeline.audio.duration") == pytest.approx(SECONDS, abs=576 / 16_000)
    for seconds in (71.0, 3.25, 95.5):
        page.evaluate("seconds => timeline.seek(seconds, {play: false})", seconds)
        page.wait_for_function("!timeline.audio.seeking && timeline.audio.readyState >= 2")
        assert page.evaluate("timeline.audio.currentTime") == pytest.approx(seconds, abs=0.001)


def test_the_browser_hears_each_turn_where_it_is(show: Open) -> None:
    """Decoded by the browser, the preview is to the sample as long as the audio, and in time."""
    page = show()
    length, starts = page.evaluate(
        "async () => { const context = new OfflineAudioContext(1, 1, 16000);"
        " const data = await (await fetch(timeline.options.audioUrl)).arrayBuffer();"
        " const audio = await context.decodeAudioData(data); const starts = [];"
        " for (let side = 0; side < audio.numberOfChannels; side += 1) {"
        "   const samples = audio.getChannelData(side);"
        "   starts.push(samples.findIndex((value) => Math.abs(value) > 0.05) / 16000); }"
        " return [audio.length, starts]; }"
    )
    assert length == SECONDS * 16_000
    first = [next(one for one in CALL if one.channel == side) for side in range(2)]
    assert starts == [pytest.approx(one.start_s, abs=0.15) for one in first]


def test_by_keyboard(show: Open) -> None:
    """Seconds, turns, both ends, zoom and play; and the reader is told where that is."""
    page = show()
    ready(page)
    stage(page).focus()
    for key, seconds in (
        ("ArrowRight", 1.0),
        ("Shift+ArrowRight", 11.0),
        ("ArrowLeft", 10.0),
        ("Home", 0.0),
        ("ArrowLeft", 0.0),
        ("ArrowDown", CALL[0].start_s),
        ("ArrowDown", CALL[1].start_s),
        ("ArrowDown", CALL[2].start_s),
        ("ArrowUp", CALL[1].start_s),
        ("End", SECONDS),
    ):
        page.keyboard.press(key)
        assert position(page) == pytest.approx(seconds, abs=0.01), key
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    name, label = NAMES[CALL[0].channel], CALL[0].label
    told = stage(page).get_attribute("aria-valuetext")
    assert told == f"0:00.4 of 1:36.0, {name}: {label}"
    page.keyboard.press("Space")
    page.wait_for_function("timeline.playing")
    page.keyboard.press("Space")
    page.wait_for_function("!timeline.playing")
    width = page.evaluate("timeline.stage.spacer.offsetWidth")
    page.keyboard.press("+")
    page.keyboard.press("+")
    wider = page.evaluate("timeline.stage.spacer.offsetWidth")
    assert wider == pytest.approx(2.56 * width, rel=0.01)
    expect(page.locator(".et-overview")).to_be_visible()
    page.keyboard.press("0")
    assert page.evaluate("timeline.stage.spacer.offsetWidth") == width
    expect(page.locator(".et-overview")).to_be_hidden()


def test_who_hears_the_page_hears_the_recording(show: Open) -> None:
    """While it plays no reader is told where it is, over and over; once it is paused, it is."""
    page = show()
    ready(page)
    slow_down(page, 0.2)
    turn = max(CALL, key=lambda one: one.end_s - one.start_s)
    page.evaluate(
        "seconds => { window.told = 0; const note = (all) => { told += all.length; };"
        " new MutationObserver(note).observe(timeline.stage.scroll, { attributes: true,"
        "   attributeFilter: ['aria-valuetext', 'aria-valuenow'] });"
        " timeline.seek(seconds); }",
        turn.start_s + 0.1,
    )
    page.wait_for_function("seconds => timeline.position > seconds", arg=turn.start_s + 0.6)
    assert page.evaluate("timeline.playing && told") <= 6  # of each: the seek, and who speaks
    page.evaluate("timeline.toggle()")
    page.wait_for_function("!timeline.playing")
    assert float(stage(page).get_attribute("aria-valuenow") or 0) > turn.start_s + 0.5


def test_a_file_that_is_gone_is_said(show: Open, site: str) -> None:
    """Peaks and preview may have been deleted: the rest is shown, and what is missing is told."""
    page = show("bare")
    gone = {"peaksUrl": f"{site}/gone.dat", "audioUrl": f"{site}/page.html"}
    page.route("**/gone.dat", lambda route: route.fulfill(status=200, body="no peaks"))
    page.route("**/page.html", lambda route: route.fulfill(status=200, body="<html>"))
    page.evaluate("options => timeline.update(options)", gone)
    status = page.get_by_role("status")
    expect(status).to_contain_text("not audiowaveform data")
    expect(status).to_contain_text("The preview cannot be played")
    expect(page.locator("tbody tr")).to_have_count(len(CALL))


def test_what_is_destroyed_is_gone_and_silent(show: Open) -> None:
    """Mounting again replaces what was there; destroying leaves nothing, and no sound."""
    page = show()
    ready(page)
    page.evaluate("window.sound = timeline.audio; timeline.seek(5)")
    page.wait_for_function("!sound.paused")
    page.evaluate("EmoTimeline.mount(timeline.host, timeline.options)")
    assert page.evaluate("sound.paused")
    assert page.locator(".emo-timeline").count() == 1
    page.evaluate("EmoTimeline.mount(timeline.host, timeline.options).destroy()")
    assert page.locator(".emo-timeline").count() == 0
