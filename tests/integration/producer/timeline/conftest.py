"""One browser, and one site with every case."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.support.chromium import chromium
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.timeline_page import Open
from tests.support.timeline_site import cases, made, served


@pytest.fixture(scope="package")
def site() -> Iterator[str]:
    """The address of a page with every case; the hour is only told of, not heard."""
    files = made(["call", "speakers", "timeline", "whole", "bare", "apart", "nobody", "hostile"])
    hour, _ = cases()["hour"]
    files["/hour.json"] = json.dumps(hour).encode()
    with served(files) as (address, _):
        yield address


@pytest.fixture(scope="package")
def browser() -> Iterator[BrowserContext]:
    """One for all tests here, and of one user: the pages keep nothing."""
    with chromium("--process-per-site") as started:
        user = started.new_context()
        user.set_default_timeout(TIMEOUT_SECONDS * 1000)
        user.new_page()  # so that the process of the last page lives on for the next
        yield user


@pytest.fixture
def show(site: str, browser: BrowserContext) -> Iterator[Open]:
    """Opens a case; afterwards nothing may have gone wrong, or been asked of another host."""
    opened: list[Page] = []
    wrong: list[str] = []

    def opens(case: str = "call", *, width: int = 1_180, **query: str) -> Page:
        page = browser.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        opened.append(page)
        page.on("pageerror", lambda error: wrong.append(f"{error}"))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        asked = "&".join(f"{name}={value}" for name, value in {"case": case, **query}.items())
        page.goto(f"{site}/?{asked}")
        page.wait_for_function("window.timeline")
        return page

    hosts: set[str] = set()
    yield opens
    for page in opened:
        page.close()
    assert browser.storage_state() == {"cookies": [], "origins": []}
    assert wrong == []
    assert hosts <= {urlsplit(site).netloc}
