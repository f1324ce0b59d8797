# SPDX-License-Identifier: Apache-2.0
"""Every finding, triggered."""

import pytest

from places import ROOT
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.findings import Severity, declare, declared, found
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve

CASES = [
    ("parallelism-mesh", ["device=t3k", "model=llama8b", "parallelism.tensor_parallel_size=4"]),
    ("tensor-parallel-heads", ["device=t3k", "parallelism.tensor_parallel_size=8"]),
    ("pipeline-layers", ["parallelism.pipeline_parallel_size=64", "device=tg"]),
    ("sequence-parallel-alone", ["parallelism.sequence_parallel=true"]),
    ("batch-over-maximum", ["workload.batch=33"]),
    ("batch-size", ["workload.batch=3"]),
    ("context-over-model", ["workload.context=9000"]),
    ("prefill-chunk-over-context", ["device.max_prefill_chunk_size=131072"]),
    ("prefill-chunk-tiles", ["device.max_prefill_chunk_size=1000"]),
    ("unsupported-in-tt-transformers", ["model=qwen2_5_32b", "device=n300"]),
    ("kv-cache-over-l1", ["memory.kv_cache_placement=L1", "workload.batch=32", "workload.context=4096"]),
    ("dram-overflow", ["model=llama70b"]),
    ("wormhole-hifi4-fp32", ["compute.attention.math_fidelity=HiFi4"]),
    ("fidelity-below-format", ["compute.ff2.math_fidelity=LoFi"]),
    ("fidelity-above-format", ["compute.ff1_ff3.math_fidelity=HiFi2"]),
    ("bfp4-long-context", ["model=llama1b", "workload.context=65536"]),
    ("throttle-level", ["compute.mlp.throttle_level=9"]),
]


def findings(overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed).findings


@pytest.mark.parametrize(("id", "overrides"), CASES, ids=[case[0] for case in CASES])
def test_each_finding_is_found_with_a_reason_and_a_fix(id, overrides):
    found = {finding.id: finding for finding in findings(overrides)}
    assert id in found
    assert found[id].what
    assert found[id].why
    assert found[id].fix


def test_every_declared_finding_is_tested_and_on_its_page():
    page = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    assert all(f"| `{kind.id}` | {kind.severity} | " in page for kind in declared())
    assert {kind.id for kind in declared()} == {case[0] for case in CASES}


def test_an_id_stands_for_one_thing():
    declare("throttle-level", Severity.error, "a throttle level outside ttnn's 0 to 5")
    with pytest.raises(ValueError, match="throttle-level is declared twice"):
        declare("throttle-level", Severity.warning, "something else")
    with pytest.raises(KeyError):
        found("no-such-id", "", "", "")


def test_the_default_configuration_has_nothing_to_complain_about():
    assert findings([]) == []


def test_a_layer_of_its_own_is_checked_too():
    layers = 'layers=[{select: "3", precision: {ff1_ff3: BFP8}}]'
    (found,) = [finding for finding in findings([layers]) if finding.id == "fidelity-below-format"]
    assert "in layer 3" in found.what
