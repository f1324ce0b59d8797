# SPDX-License-Identifier: Apache-2.0
"""What is said of typed programs, word for word."""

from __future__ import annotations

import pytest
from finding_cases import findings, said

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.model_rules import knobs
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.planned import lm_head_columns, op_plans, row_limit
from tt_transformers_v2.config.resolve import resolve


@pytest.mark.parametrize("case", said("planned"), ids=lambda case: " ".join(case["typed"]))
def test_a_finding_says_what_is_wrong_why_and_what_to_type(case):
    found = [str(finding) for finding in findings(case["typed"]) if finding.id == case["id"]]
    assert found[:1] == [case["says"]]
    assert len(found) == len(set(found))


def test_layers_of_other_configurations_are_asked_about_too():
    typed = [f"runtime.programs.ff1_ff3_prefill.{field}" for field in ("per_core_n=8", "out_subblock_w=8")]
    wide = ["compute.mlp.fp32_dest_acc_en=false", *typed]
    other = 'layers=[{select: "1", compute: {ff1_ff3: {fp32_dest_acc_en: true}}}]'
    assert [
        [each.id for each in findings(asked) if each.id == "program-block"] for asked in (wide, [*wide, other])
    ] == [
        [],
        ["program-block"],
    ]


@pytest.mark.parametrize("model", ["llama8b", "smollm2_135m"])
def test_the_lm_head_is_cut_and_rows_are_limited_as_the_rules_say(model):
    checked = check_overrides([f"model={model}"])
    experiment = resolve(compose(checked.texts), checked.typed)
    known = knobs(experiment.hardware, experiment.spec)
    columns = known.get("lm_head_max_columns_per_device") or 32 * known["lm_head_max_columns_per_core"]
    plans = op_plans(experiment)
    assert lm_head_columns(experiment.hardware, experiment.spec) == columns
    assert plans.row_limit == row_limit(experiment.hardware, experiment.spec) == known.get("prefill_len_cutoff", 1024)
    assert (plans.readers_per_bank, plans.fitted, bool(plans.parts)) == (1, {}, True)
    assert op_plans(experiment, tensor_parallel=False).parts == {}
