"""A real headless Chromium, Debian's."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """One that is up; skips loudly where there is none, and fails in CI."""
    program = shutil.which("chromium")
    if program is None:
        message = "NO chromium on this machine: no page was looked at (Debian: chromium)"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
