# SPDX-License-Identifier: Apache-2.0
"""A preset runs without warnings about its own values: those are published, and hints say so."""

import itertools
import re

import pytest
from finding_cases import typed_instead, ways

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.findings import Severity
from tt_transformers_v2.config.groups import device_types, groups
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve

JUDGED = ("wormhole-hifi4-fp32", "fidelity-below-format")
# What a user can act on: another device, or fewer users and a shorter context.
ACTIONABLE = {"unsupported-in-tt-transformers", "dram-narrow"}

# One of every kind: dense and with experts, small and large, published and not, with windows and without.
MODELS = ("smollm2_135m", "llama8b", "llama70b", "qwen3_32b", "gemma3_4b", "gpt_oss_20b", "mixtral_8x7b")
ALL_MODELS = tuple(model for model in groups()["model"] if model != "hf")


def findings(*overrides):
    checked = check_overrides(list(overrides))
    return resolve(compose(checked.texts), checked.typed).findings


def ids(found):
    return {each.id for each in found}


def severities(*overrides):
    return {finding.id: finding.severity for finding in findings(*overrides) if finding.id in JUDGED}


def of_presets(models):
    """Every preset, as typed, with what is found of it."""
    for device, model, precision in itertools.product(device_types().values(), models, groups()["precision"]):
        typed = [f"device={device}", f"model={model}", f"precision={precision}"]
        yield typed, findings(*typed)


def assert_actionable(models):
    """No preset warns of anything else, and what any finding prints to type makes it go."""
    tried = set()
    for typed, found in of_presets(models):
        assert {each.id for each in found if each.severity is Severity.warning} <= ACTIONABLE, typed
        for kind in {each.id for each in found}:
            fixes = tuple(each.fix for each in found if each.id == kind)
            if (kind, fixes) in tried:
                continue
            tried.add((kind, fixes))
            for way in ways(fixes):
                assert kind not in ids(findings(*typed_instead(typed, way))), (typed, way)
            if kind == "unsupported-in-tt-transformers":
                (devices,) = re.findall(r"\((.*)\)", fixes[0])
                others = [findings(*typed_instead(typed, [f"device={name}"])) for name in devices.split(", ")]
                assert all(kind not in ids(other) for other in others), typed
                assert not all(any(left.severity is Severity.error for left in other) for other in others), typed
    return tried


def test_presets_warn_of_nothing_that_a_user_cannot_act_on():
    assert len({kind for kind, _ in assert_actionable(MODELS)}) >= 6


@pytest.mark.slow
def test_no_preset_of_any_model_warns_of_what_a_user_cannot_act_on():
    assert_actionable(ALL_MODELS)


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
