# SPDX-License-Identifier: Apache-2.0
"""A preset runs without warnings about its own values: those are published, and hints say so."""

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.findings import Severity
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve

JUDGED = ("wormhole-hifi4-fp32", "fidelity-below-format")
# What a user can act on: another device, or fewer users and a shorter context.
ACTIONABLE = {"unsupported-in-tt-transformers", "dram-narrow"}


def findings(*overrides):
    checked = check_overrides(list(overrides))
    return resolve(compose(checked.texts), checked.typed).findings


def severities(*overrides):
    return {finding.id: finding.severity for finding in findings(*overrides) if finding.id in JUDGED}


@pytest.mark.parametrize("precision", ["performance", "accuracy"])
@pytest.mark.parametrize("device", sorted(device_types().values()))
def test_presets_warn_of_nothing_that_a_user_cannot_act_on(device, precision):
    for model in ("smollm2_135m", "llama8b", "llama70b", "qwen3_32b", "gemma3_4b", "gpt_oss_20b", "mixtral_8x7b"):
        found = findings(f"device={device}", f"model={model}", f"precision={precision}")
        assert {each.id for each in found if each.severity is Severity.warning} <= ACTIONABLE, model


def test_published_exceptions_are_hints():
    assert severities("device=t3k", "model=llama8b", "precision=performance")["fidelity-below-format"] is Severity.hint
    assert severities("device=n150", "precision=accuracy")["wormhole-hifi4-fp32"] is Severity.hint


@pytest.mark.parametrize(
    "typed",
    ["compute.sdpa_prefill.math_fidelity=HiFi4", "layers=[{select: 0, precision: {wo: BFP8}}]"],
)
def test_what_the_user_chose_is_warned_of(typed):
    assert severities("device=n150", "precision=accuracy", typed)["wormhole-hifi4-fp32"] is Severity.warning


def test_files_of_ones_own_are_warned_of(tmp_path):
    (tmp_path / "precision").mkdir()
    (tmp_path / "precision" / "mine.yaml").write_text("defaults: [accuracy]\n")

    @in_own_context
    def own():
        add_conf_dir(tmp_path)
        return severities("device=n150", "precision=mine")

    assert own()["wormhole-hifi4-fp32"] is Severity.warning
