# SPDX-License-Identifier: Apache-2.0
"""What is said of what the real ttnn cannot run, word for word."""

from __future__ import annotations

import pytest
from finding_cases import findings, said

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.findings import TtnnUse
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.config.ttnn_checks import attention_plans, use_of
from tt_transformers_v2.hardware.op_table import DECODE, PREFILL


@pytest.mark.parametrize("case", said("ttnn_checks"), ids=lambda case: " ".join(case["typed"]))
def test_a_finding_says_what_is_wrong_why_and_what_to_type(case):
    found = [str(finding) for finding in findings(case["typed"]) if finding.id == case["id"]]
    assert found[:1] == [case["says"]]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("asked", "use"),
    [
        (["task=accuracy"], None),
        (["task=performance", "backend=reference"], None),
        (["task=preflight"], TtnnUse.preflight),
        (["task=accuracy", "backend=ttnn"], TtnnUse.run),
        (["task=both", "backend=ttnn"], TtnnUse.run),
    ],
)
def test_what_ttnn_is_used_for_follows_from_task_and_backend(asked, use):
    assert use_of(experiment(asked).config) == use


def test_attention_is_planned_on_the_columns_and_rows_of_the_device():
    planned = attention_plans(experiment(["device=p150", "runtime.programs.sdpa_decode.rows=3"]))
    assert {phase: (plan.columns, plan.rows) for phase, plan in planned.items()} == {
        PREFILL: (11, 10),
        DECODE: (11, 3),
    }


def test_the_parts_of_the_lm_head_are_counted_from_one():
    (found,) = [each for each in findings(["device=p100", "runtime.programs.lm_head.readers_per_bank=2"])
                if each.id == "dram-readers"]  # fmt: skip
    assert "lm_head part 1 " in found.why


def experiment(asked):
    checked = check_overrides(asked)
    return resolve(compose(checked.texts), checked.typed)
