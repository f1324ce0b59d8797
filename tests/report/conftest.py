# SPDX-License-Identifier: Apache-2.0
"""A real browser for tests of the report.

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


@pytest.fixture
def show(chromium):
    """Opens a file in a page that is offline. Afterwards nothing else may have been fetched or complained of."""
    said, asked, opened, contexts = [], [], set(), []

    def open_page(path, **options):
        context = chromium.new_context(offline=True, viewport={"width": 1400, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        opened.add(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("blob:")} == opened
