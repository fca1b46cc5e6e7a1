"""A page with a timeline, as a browser has it."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.support.polling import TIMEOUT_SECONDS
from tests.support.timeline_site import conversation

CALL = conversation(96)
SECONDS = 96.0
NAMES = ("Amelie (agent)", "customer")
Open = Callable[..., Page]
expect.set_options(timeout=TIMEOUT_SECONDS * 1000)  # of all that is awaited in tests of it


def position(page: Page) -> float:
    """Where it is, in seconds."""
    return float(page.evaluate("timeline.position"))


def slow_down(page: Page, rate: float = 0.0625) -> None:
    """Play as slowly as a browser can, or at that rate: what stands still then misses little."""
    # To keep the pitch, it would have to hear seconds more before it begins.
    sound = "{ preservesPitch: false, playbackRate: rate }"
    page.evaluate(f"rate => {{ Object.assign(timeline.audio, {sound}); }}", rate)


def box_of(locator: Locator) -> dict[str, float]:
    """Where it is on the page, in pixels."""
    box = locator.bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def stage(page: Page) -> Locator:
    """The lanes, which a screen reader knows as a slider."""
    return page.get_by_role("slider", name="Position in the recording")


def ready(page: Page) -> None:
    """Wait until it knows what there is to be played, and has drawn what there is to be seen."""
    page.wait_for_function("timeline.audio.readyState >= 1 && timeline.stage.peaks")
    page.wait_for_function("!timeline.stage.frame")
