# SPDX-License-Identifier: Apache-2.0
"""What the real ttnn refuses of every device, shape class and precision mode, and that nothing of it is our mistake."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import preflight_matrix as matrix
import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.preflight import preflight_result
from tt_transformers_v2.preflight.preflight_result import failure_of, preflight_section, preflight_sections

needs_ttnn = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None, reason="ttnn is not installed: there is no wheel for this machine"
)
REGENERATE = "python tests/preflight/preflight_matrix.py --write"


# ---- what was written down ----


def test_every_device_was_asked_about_models_and_modes_that_exist() -> None:
    kept = matrix.kept()
    assert sorted(kept) == matrix.DEVICES
    for refused in kept.values():
        assert set(refused) <= set(matrix.MODELS)
        assert all(set(modes) <= set(matrix.PRECISIONS) for modes in refused.values())


def test_every_reason_is_explained_and_no_explanation_is_left_over() -> None:
    assert set(matrix.counted()) == set(matrix.WHY), f"then {REGENERATE}"


def test_the_page_has_the_table() -> None:
    assert matrix.PAGE.read_text() == matrix.page_with_table(), "python tests/preflight/preflight_matrix.py --table"


def test_no_refusal_is_this_packages_mistake() -> None:
    assert [why for why in matrix.counted() if matrix.WHY[why].startswith(matrix.OURS)] == []


def test_an_8b_is_refused_nowhere_in_performance_mode() -> None:
    """Otherwise a list that is all too long would pass as one that is explained."""
    assert [device for device, refused in matrix.kept().items() if "performance" in refused.get("llama8b", {})] == []


# ---- asked again ----


@pytest.mark.slow
@needs_ttnn
@pytest.mark.parametrize("device", matrix.DEVICES)
def test_a_device_refuses_what_is_written_down(device: str) -> None:
    assert matrix.refusals(device) == matrix.kept()[device], f"{REGENERATE} {device}"


# ---- several experiments from one process ----


@needs_ttnn
def test_one_process_answers_as_one_process_each() -> None:
    asked = [matrix.experiment("n300", model, "performance") for model in ("smollm2_135m", "llama1b")]
    many = list(preflight_sections(asked))
    assert [failure_of(section) for section in many] == [None, None]
    for experiment, section in zip(asked, many, strict=True):
        alone = preflight_section(experiment, lambda *facts: None)
        assert section.pop("seconds") > 0 < alone.pop("seconds")
        assert section == alone


@needs_ttnn
def test_where_ttnn_gives_up_one_experiment_fails_and_the_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_result, "JOB_OF_MANY", "preflight_jobs:dies_at_llama1b")
    asked = [matrix.experiment("n150", model, "performance") for model in ("smollm2_135m", "llama1b", "smollm2_135m")]
    first, second, third = preflight_sections(asked, advise=False)
    assert failure_of(first) is failure_of(third) is None
    assert first["asked_ops"] == third["asked_ops"] > 50
    assert "crashed (SIGABRT)" in second["error"]
    assert second["said"] == "the sky fell"
    assert matrix.reason(second) == "ttnn gave up: the sky fell"


@needs_ttnn
def test_what_no_op_can_be_made_of_is_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_result, "JOB_OF_MANY", "preflight_jobs:refuses_llama1b")
    asked = [matrix.experiment("n150", model, "performance") for model in ("llama1b", "smollm2_135m")]
    first, second = preflight_sections(asked, advise=False)
    assert isinstance(first, ConfigError)
    assert matrix.reason(first) == "no op: # heads are too many."
    assert matrix.reason(second) is None


def test_experiments_on_different_systems_do_not_share_a_process() -> None:
    asked = [matrix.experiment(device, "llama1b", "performance") for device in ("n150", "n300")]
    with pytest.raises(ConfigError, match="one and the same system"):
        list(preflight_sections(asked))


def test_a_device_asked_again_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matrix, "KEPT", tmp_path / "refusals.yaml")
    assert matrix.kept() == {}
    matrix.keep("n300", {"llama70b": {"accuracy": "dram-overflow"}})
    matrix.keep("n150", {"phi4": {"custom": "dram-overflow"}})
    matrix.keep("n300", {"llama70b": {"custom": "dram-overflow"}})
    assert matrix.kept() == {
        "n150": {"phi4": {"custom": "dram-overflow"}},
        "n300": {"llama70b": {"custom": "dram-overflow"}},
    }
    assert matrix.counted() == {"dram-overflow": 2}
