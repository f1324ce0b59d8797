# SPDX-License-Identifier: Apache-2.0
"""Pages of a report in a real browser."""

import pytest

from browsers import chromium  # noqa: F401 - a fixture


@pytest.fixture
def show(chromium):  # noqa: F811
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
