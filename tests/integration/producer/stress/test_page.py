"""The page of a run, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from producer.stress.page import page
from producer.stress.report import Kept, Sample
from tests.support.chromium import chromium
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.stress_runs import run, shots

SAMPLES = [Sample(at, 3, 4, 0, 0.5, 0.1, 1.5, 0.9, 0.8) for at in (1.0, 3.0, 5.0)]
OUTSIDE = """() => [...document.querySelectorAll('svg text')].filter(text => {
    const box = text.getBoundingClientRect(), svg = text.ownerSVGElement.getBoundingClientRect();
    return box.left < svg.left - 1 || box.right > svg.right + 1 || box.bottom > svg.bottom + 1;
}).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all that there may be on one."""
    found = run(shots(took=lambda n: 10 + n / 7), samples=SAMPLES, foreign=3)
    kept = Kept(found, objective="p99<2s", steps=((10.0, True, "p99 50 ms"),))
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_text(page(kept, run()), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 900)])
def test_it_fits(browser: Browser, file: Path, width: int, height: int) -> None:
    """A phone and a desk: nothing to scroll sideways, no label cut off, no other host."""
    view = browser.new_page(viewport={"width": width, "height": height})
    view.set_default_timeout(TIMEOUT_SECONDS * 1000)
    asked: list[str] = []
    complaints: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: complaints.append(message.text))
    view.goto(file.as_uri())
    assert asked == [file.as_uri()]
    assert complaints == []
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate(OUTSIDE) == []
    assert view.locator("svg").count() == 6
    view.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(browser: Browser, file: Path, scheme: str) -> None:
    """Light and dark as the system is, with contrast enough for all text (WCAG AA: 4.5)."""
    view = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    view.set_default_timeout(TIMEOUT_SECONDS * 1000)
    view.goto(file.as_uri())
    contrasts = view.evaluate(
        """() => {
        const lit = rgb => rgb.map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
        const colour = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
        const behind = node => {
            for (; node; node = node.parentElement) {
                const back = getComputedStyle(node).backgroundColor;
                if (back !== 'rgba(0, 0, 0, 0)') return colour(back);
            }
        };
        return [...document.querySelectorAll('h1,h2,p,li,td,th,strong,b,figcaption,text,span')]
            .filter(node => node.textContent.trim())
            .map(node => {
                const style = getComputedStyle(node), svg = node.tagName === 'text';
                const pair = [lit(colour(svg ? style.fill : style.color)), lit(behind(node))];
                return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
            });
        }"""
    )
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5
    view.close()
