# SPDX-License-Identifier: Apache-2.0
"""Experiments on SmolLM2's real weights, and where lm-eval may write."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from places import ROOT
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve

HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
WHY = "lm-eval is not installed: pip install 'tt-transformers-v2[lm-eval]'"


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips where lm-eval is missing; goes to the checkout, which our tasks' data is relative to."""
    if not HAS_LM_EVAL:
        pytest.skip(WHY)
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def experiment() -> Callable[..., Experiment]:
    def of(*overrides: str) -> Experiment:
        checked = check_overrides(["task=evaluate", *overrides])
        return resolve(compose(checked), checked.typed)

    return of
