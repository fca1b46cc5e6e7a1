"""The timeline in a real browser: seen, read, and by a screen reader."""

import re

import pytest
from playwright.sync_api import Page, expect

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
from tests.support.timeline_site import STATIC, Said


def pixel(page: Page, x: float, y: float) -> list[int]:
    """Red, green, blue and alpha of the lanes' canvas."""
    found: list[int] = page.evaluate(
        "([x, y]) => { const canvas = document.querySelector('.et-canvas');"
        " return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]; }",
        [round(x), round(y)],
    )
    return found


def colours(theme: str) -> dict[str, list[int]]:
    """Of each label, by the style sheet."""
    light, dark = (STATIC / "timeline.css").read_text().split('[data-theme="dark"]')[:2]
    listed = re.findall(r"--et-(\w+): #(\w{6});", light if theme == "light" else dark)
    return {name: [int(value[at : at + 2], 16) for at in (0, 2, 4)] for name, value in listed}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_turn_is_drawn_in_its_lane_and_colour(show: Open, theme: str) -> None:
    """As opaque as it is sure, where its channel is and nowhere else; both themes."""
    page = show(**({"dark": ""} if theme == "dark" else {}))
    ready(page)
    assert page.locator(".emo-timeline").get_attribute("data-theme") == theme
    scale = box_of(stage(page))["width"] / SECONDS
    for one in CALL:
        x = one.start_s * scale + 1.5
        red, green, blue, alpha = pixel(page, x, 108 * one.channel + 33)
        assert [red, green, blue] == pytest.approx(colours(theme)[one.label], abs=6), one
        # The chip lies below the edge that is as opaque as the turn is sure.
        assert alpha / 255 >= 0.35 + 0.65 * one.score - 0.02
        others = [o for o in CALL if o.channel != one.channel]
        if not any(o.start_s - 0.5 < one.start_s < o.end_s + 0.5 for o in others):
            drawn = pixel(page, x, 108 * (1 - one.channel) + 33)
            assert drawn[3] == 0 or drawn[:3] != [red, green, blue]


def height(page: Page, channel: int, seconds: float) -> int:
    """How many pixels are drawn of the waveform around a moment."""
    scale = box_of(stage(page))["width"] / SECONDS
    tall: int = page.evaluate(
        "([x, y]) => { const data = document.querySelector('.et-canvas').getContext('2d')"
        ".getImageData(x, y, 9, 54).data; let most = 0;"
        " for (let column = 0; column < 9; column += 1) { let tall = 0;"
        " for (let row = 0; row < 54; row += 1) tall += data[4 * (9 * row + column) + 3] > 60;"
        " most = Math.max(most, tall === 54 ? 0 : tall); } return most; }",
        [round(seconds * scale), 108 * channel + 48],
    )
    return tall


def test_the_waveform_is_that_of_the_channel(show: Open) -> None:
    """High where somebody speaks, loud where they are loud, flat where the other does."""
    page = show()
    ready(page)
    angry = max(
        (one for one in CALL if one.label == "angry" and one.channel == 1),
        key=lambda one: one.end_s - one.start_s,
    )
    middle = (angry.start_s + angry.end_s) / 2
    calm = next(one for one in CALL if one.label == "neutral" and one.channel == 0)
    assert height(page, 1, middle) > 36
    assert height(page, 0, middle) < 6
    assert 8 < height(page, 0, (calm.start_s + calm.end_s) / 2) < height(page, 1, middle)


def test_turns_are_a_list_that_is_read_and_played(show: Open) -> None:
    """Each from when to when, who, which label and how sure; a click plays it."""
    page = show()
    rows = page.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(len(CALL))
    first = CALL[0]
    button = page.get_by_role("button", name="Play: from 0:00.4 to")
    assert button.inner_text().split() == ["Play:", "from", "0:00.4", "–", "to", "0:04.1"]
    text = rows.first.inner_text()
    assert f"{NAMES[first.channel]}" in text
    assert first.label in text
    assert f"{round(100 * first.score)}\u00a0%" in text
    ready(page)
    slow_down(page)
    page.get_by_role("button", name="Play: from").nth(3).click()
    page.wait_for_function("timeline.playing")
    assert position(page) == pytest.approx(CALL[3].start_s, abs=1)
    expect(rows.nth(3)).to_have_attribute("aria-current", "true")


def shares(said: list[Said], start: float, end: float) -> dict[str, float]:
    """Of each label, by seconds between two moments."""
    seconds: dict[str, float] = {}
    for one in said:
        inside = min(one.end_s, end) - max(one.start_s, start)
        if inside > 0:
            seconds[one.label] = seconds.get(one.label, 0) + inside
    return {label: each / sum(seconds.values()) for label, each in seconds.items()}


def test_who_speaks_how_is_summed_up(show: Open) -> None:
    """Shares of each label by seconds, of all and of the first and last quarter."""
    page = show()
    for channel, name in enumerate(NAMES):
        card = page.locator(".et-card", has=page.get_by_role("heading", name=name))
        own = [one for one in CALL if one.channel == channel]
        for number, (start, end) in enumerate([(0, 96), (0, 24), (72, 96)]):
            told = card.locator("dd").nth(number).inner_text().replace("\u00a0", " ")
            expected = shares(own, start, end)
            assert dict(re.findall(r"(\w+) (\d+) %", told)) == {
                label: f"{100 * share:.0f}" for label, share in expected.items()
            }


def test_an_hour_is_scrolled_and_listed_a_hundred_turns_at_a_time(show: Open) -> None:
    """Without sound and waveform, which is said; zoomed in, the overview leads anywhere."""
    page = show("hour")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Show more (").click()
    expect(rows).to_have_count(200)
    note = page.get_by_role("status").inner_text()
    assert "want=preview" in note
    assert "want=peaks" in note
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_disabled()
    for _ in range(5):
        page.get_by_role("button", name="Zoom in").click()
    overview = box_of(page.locator(".et-overview"))
    page.mouse.click(overview["x"] + overview["width"] / 2, overview["y"] + 10)
    middle = "timeline.stage.firstSecond + timeline.stage.width / timeline.stage.perSecond / 2"
    page.wait_for_function(f"Math.abs({middle} - 1800) < 20")
    page.get_by_role("button", name="Whole recording").click()
    assert page.evaluate("timeline.stage.firstSecond") == 0


@pytest.mark.parametrize(
    ("case", "lanes", "turns"),
    [
        ("call", ["Amelie (agent) Channel 0", "customer Channel 1"], len(CALL)),
        ("bare", ["Amelie (agent) Channel 0", "customer Channel 1"], len(CALL)),
        ("speakers", ["Amelie (agent)", "customer"], len(CALL)),
        ("whole", ["Recording"], 1),
        ("apart", ["Recording"], 1),
        ("nobody", ["Recording"], 0),
    ],
)
def test_lanes_are_channels_or_speakers(
    show: Open, case: str, lanes: list[str], turns: int
) -> None:
    """Whichever the result tells of; and what there is none of is left out."""
    page = show(case)
    assert page.locator(".et-name").all_inner_texts() == lanes
    expect(page.locator("tbody tr")).to_have_count(turns)
    expect(page.locator(".et-summary")).to_have_count(1 if turns > 1 else 0)
    if case == "apart":
        assert "too long for the result itself" in page.get_by_role("status").inner_text()
    if case == "nobody":
        assert "Nothing was found" in page.get_by_role("status").inner_text()


def test_what_others_wrote_is_text(show: Open) -> None:
    """A speaker's name that is markup shows as such, and a segment without a time not at all."""
    page = show("hostile")
    assert "<img src=x onerror=alert(1)>" in page.locator(".et-name").first.inner_text()
    assert page.locator("img").count() == 0
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_in_chinese(show: Open) -> None:
    """All of it, labels too; and no word of English is left but names."""
    page = show(lang="zh-CN")
    text = page.locator(".emo-timeline").inner_text()
    for name in NAMES:
        text = text.replace(name, "")
    assert re.findall(r"[A-Za-z]{2,}", text) == []
    assert "话轮" in text
    assert "生气" in text
    assert page.locator(".emo-timeline").get_attribute("lang") == "zh"
    expect(page.get_by_role("slider", name="录音中的位置")).to_be_visible()


@pytest.mark.parametrize("case", ["call", "hour", "hostile"])
def test_on_a_phone(show: Open, case: str) -> None:
    """Nothing is wider than the screen, and the controls are one row, big enough for a finger."""
    page = show(case, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [box_of(box) for box in page.locator(".et-bar button:visible").all()]
    assert len({round(box["y"] + box["height"] / 2) for box in boxes}) == 1
    assert all(box["width"] >= 36 and box["height"] >= 36 for box in boxes)
    table = page.locator(".et-table")
    if case == "call":
        assert table.evaluate("one => one.scrollWidth <= one.clientWidth")
