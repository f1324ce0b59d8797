# SPDX-License-Identifier: Apache-2.0
"""One cache for all preflights of the tests: what one has built, the next finds. And a browser for their reports."""

from __future__ import annotations

import pytest

from browsers import chromium  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _in_own_cache(own_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", own_cache)
