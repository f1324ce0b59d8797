# SPDX-License-Identifier: Apache-2.0
"""What a finding advises, typed: the finding is gone, and nothing new stands in the way of the run."""

from __future__ import annotations

import pytest
from finding_cases import errors, findings, of_kind, typed_instead, ways


def _split(tensor, pipeline, data):
    sizes = {"tensor": tensor, "pipeline": pipeline, "data": data}
    return [f"parallelism.{kind}_parallel_size={size}" for kind, size in sizes.items()]


def _layers(select, format, fidelity):
    changed = f"precision: {{ff1_ff3: {format}}}, compute: {{ff1_ff3: {{math_fidelity: {fidelity}}}}}"
    return f'layers=[{{select: "{select}", {changed}}}]'


# Fixes that print what to type: each of their ways alone makes the finding go.
PRINTED = {
    "dram-overflow": [
        ["model=llama70b"],
        ["model=llama1b", "workload.context=131072", "workload.batch=4"],
        ["model=llama70b", "device=n300", "workload.context=131072", "device.trace_region_size=2000000000"],
        ["model=mistral_small_24b", "device=n300", "precision.mlp_weights=BFP8", "device.dispatch_core_type=ETH"],
        ["model=llama90b", "device=p300", "workload.context=131072", "device.max_prefill_chunk_size=131072"],
        ["model=llama8b", "workload.context=65536", "workload.batch=32", "memory.kv_cache_placement=DRAM"],
        ["model=qwen2_5_72b", "device=p100", "parallelism.tensor_parallel_size=1"],
        ["model=llama70b", "device=t3k", *_split(4, 1, 2), "workload.batch=64"],
        ["model=llama70b", "device.sources.note=mine", "memory={}"],
    ],
    "fidelity-below-format": [
        ["compute.ff2.math_fidelity=LoFi"],
        ["compute.attention.math_fidelity=LoFi", "compute.lm_head.math_fidelity=LoFi"],
        ["model=llama8b"],
        [_layers("3", "BFP8", "LoFi")],
        [_layers("0..3, 7", "BF16", "LoFi"), "compute.ff2.math_fidelity=LoFi"],
        [_layers("all", "BFP8", "LoFi"), "compute.mlp.math_fidelity=HiFi2"],
    ],
    "fidelity-above-format": [
        ["compute.ff1_ff3.math_fidelity=HiFi2"],
        ["precision.attention_weights=BFP4"],
        ["precision.lm_head=BFP4", "precision.mlp_weights=BFP4"],
        [_layers("-1", "BFP4", "HiFi2"), "precision.ff1_ff3=BFP8", "compute.mlp.math_fidelity=HiFi2"],
    ],
    "wormhole-hifi4-fp32": [
        ["compute.attention.math_fidelity=HiFi4"],
        ["compute.attention.math_fidelity=HiFi4", "compute.lm_head.math_fidelity=HiFi4"],
        ["compute.attention.math_fidelity=HiFi4", "compute.qkv.math_fidelity=HiFi4"],
        ["precision=accuracy"],
        ["precision=accuracy", "device=t3k", "compute.o_prefill.fp32_dest_acc_en=true"],
    ],
    "tensor-parallel-heads": [
        ["device=t3k", "parallelism.tensor_parallel_size=8"],
        ["device=t3k", "model=llama8b", "parallelism.tensor_parallel_size=3"],
        ["device=t3k", *_split(4, 2, 1)],
        ["device=tg", "model=llama8b", "parallelism.tensor_parallel_size=6"],
        ["device=n300", *_split(2, 4, 1)],
    ],
    "pipeline-layers": [
        ["device=tg", *_split(1, 32, 1)],
        ["device=tg", "model=llama1b", *_split(1, 32, 1)],
        ["device=bh_galaxy", "model=llama1b", *_split(1, 32, 1), "workload.batch=32"],
        ["device=t3k", "model=qwen2_5_0_5b", *_split(2, 32, 1)],
        ["device=t3k", *_split(16, 64, 1)],
    ],
    "prefill-chunk-over-context": [
        ["device.max_prefill_chunk_size=16384"],
        ["model.max_context=1000", "device.max_prefill_chunk_size=2048"],
        ["model.max_context=16", "device.max_prefill_chunk_size=64", "workload.prompt_length=16"],
    ],
    "prefill-chunk-tiles": [[f"device.max_prefill_chunk_size={chunk}"] for chunk in (1, 31, 33, 1000)],
    "batch-size": [
        ["workload.batch=3"],
        ["device=t3k", "workload.batch=17"],
        ["device.max_batch_size=3", "workload.batch=3"],
        ["device.max_batch_size=64", "workload.batch=40"],
    ],
}
CASES = [pytest.param(kind, asked, id=f"{kind}: {' '.join(asked)}") for kind in PRINTED for asked in PRINTED[kind]]


@pytest.mark.parametrize(("kind", "asked"), CASES)
def test_what_a_fix_prints_makes_the_finding_go(kind, asked):
    before = findings(asked)
    assert kind in {finding.id for finding in before}
    for way in ways(finding.fix for finding in of_kind(kind, before)):
        assert way
        after = findings(typed_instead(asked, way))
        assert kind not in {finding.id for finding in after}, way
        assert errors(after) <= errors(before), way


# Fixes that leave a choice: what the fix says, and one such choice.
CHOICES = [
    (
        "unsupported-in-tt-transformers",
        ["model=qwen2_5_32b", "device=n300"],
        "Choose a device that the table has a chunk for (P150x4, P150x8, P300x2, T3K, TG, WH_GALAXY)",
        ["device=t3k"],
    ),
    (
        "unsupported-in-tt-transformers",
        ["model=deepseek_r1_distill_qwen_14b", "device=tg"],
        "Choose a device that the table has a chunk for (N150, N300, T3K)",
        ["device=n300"],
    ),
]


@pytest.mark.parametrize(
    ("kind", "asked", "says", "chosen"), CHOICES, ids=[f"{kind}: {' '.join(asked)}" for kind, asked, _, _ in CHOICES]
)
def test_a_choice_that_a_fix_leaves_makes_the_finding_go(kind, asked, says, chosen):
    before = findings(asked)
    advised = of_kind(kind, before)
    assert advised
    assert any(says in finding.fix for finding in advised), advised
    after = findings(typed_instead(asked, chosen))
    assert kind not in {finding.id for finding in after}
    assert errors(after) <= errors(before)
