# SPDX-License-Identifier: Apache-2.0
"""A real browser for tests, which are marked `browser`.

Needs playwright (pip install -e ".[browser]") and a Chromium: the system's, or that of `playwright install chromium`.
"""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def chromium():
    """The system's Chromium, or playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    system = next((path for name in names if (path := shutil.which(name))), None)
    api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install -e ".[browser]"')
    with api.sync_playwright() as playwright:
        if system is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield browser
        browser.close()
