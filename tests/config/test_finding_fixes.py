# SPDX-License-Identifier: Apache-2.0
"""What a finding advises, typed: the finding is gone, and nothing new stands in the way of the run."""

from __future__ import annotations

import pytest
from finding_cases import errors, findings, of_kind, typed_instead, ways
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.config.findings import declared
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.hardware import ConfigError


def _split(tensor, pipeline, data):
    sizes = {"tensor": tensor, "pipeline": pipeline, "data": data}
    return [f"parallelism.{kind}_parallel_size={size}" for kind, size in sizes.items()]


def _layers(select, format, fidelity):
    changed = f"precision: {{ff1_ff3: {format}}}, compute: {{ff1_ff3: {{math_fidelity: {fidelity}}}}}"
    return f'layers=[{{select: "{select}", {changed}}}]'


# Fixes that print what to type: each of their ways alone makes the finding go.
PRINTED = {
    "sequence-parallel-alone": [["parallelism.sequence_parallel=true"]],
    "kv-cache-over-l1": [
        ["memory.kv_cache_placement=L1", "workload.batch=32", "workload.context=4096"],
        ["device=t3k", "model=llama8b", "memory.kv_cache_placement=L1", "workload.context=65536"],
    ],
    "kv-cache-in-l1": [
        ["memory.kv_cache_placement=L1"],
        ["memory.kv_cache_placement=L1", "precision=accuracy", "device=t3k"],
    ],
    "dram-readers": [
        ["runtime.dram_readers_per_bank=2"],
        ["runtime.programs.ff2.readers_per_bank=2", "device=t3k", "model=llama8b"],
        ["runtime.programs.lm_head.readers_per_bank=2", "runtime.dram_readers_per_bank=1"],
        ["device=p150", "runtime.programs.o_decode.readers_per_bank=2"],
        ["device=p150", "runtime.programs.qkv.readers_per_bank=3"],
        [
            "device=p150",
            "model.head_dim=32",
            "model.num_heads=4",
            "model.num_kv_heads=1",
            "runtime.dram_readers_per_bank=2",
        ],
    ],
    "attention-chunk": [
        ["runtime.programs.sdpa_decode.k_chunk_size=0", "model.sliding_window=32"],
        ["runtime.programs.sdpa.k_chunk_size=0", "model.sliding_window=100"],
        ["runtime.programs.sdpa.k_chunk_size=48"],
        ["runtime.programs.sdpa_decode.k_chunk_size=512", "workload.context=8192", "runtime.kv_page_size=96"],
        ["runtime.programs.sdpa_decode.k_chunk_size=192", "workload.context=768"],
    ],
    "embedding-format": [["precision.embedding=BFP4"]],
    "embedding-unpacked": [["precision.embedding=BFP8"], ["precision.embedding=BFP8", "device=tg", "model=llama8b"]],
    "server-places": [
        ["runtime.max_num_seqs=16"],
        ["runtime.stack=vllm", "runtime.max_num_seqs=4", "workload.batch=8"],
        ["runtime.stack=vllm", "runtime.max_num_seqs=1000", "workload.batch=8"],
        ["device=n300", "runtime.stack=vllm", "runtime.max_num_seqs=1", "workload.batch=4", *_split(1, 1, 2)],
    ],
    "prefill-users": [
        ["workload.prefill_users=4", "workload.batch=8"],
        ["workload.prefill_users=9", "workload.batch=8", "runtime.prefill=batched"],
        [
            "device=t3k",
            "model=llama8b",
            "workload.prefill_users=5",
            "workload.batch=8",
            "runtime.prefill=batched",
            *_split(2, 1, 4),
        ],
    ],
    "dram-overflow": [
        ["model=llama70b"],
        ["model=llama1b", "workload.context=131072", "workload.batch=4", "device.max_prefill_chunk_size=131072"],
        ["model=llama70b", "device=n300", "workload.context=131072", "device.trace_region_size=2000000000"],
        ["model=mistral_small_24b", "device=n300", "precision.mlp_weights=BFP8", "device.dispatch_core_type=ETH"],
        ["model=llama90b", "device=p300", "workload.context=131072", "device.max_prefill_chunk_size=131072"],
        ["model=llama8b", "workload.context=65536", "workload.batch=32", "memory.kv_cache_placement=DRAM"],
        ["model=qwen2_5_72b", "device=p100", "parallelism.tensor_parallel_size=1"],
        ["model=llama70b", "device=t3k", *_split(4, 1, 2), "workload.batch=64"],
        ["model=llama70b", "device.sources.note=mine", "memory={}"],
        ["model=llama8b", "device=n300", "workload.batch=32", "workload.context=8192"],
        ["model=llama8b", "workload.context=65536", "device.max_prefill_chunk_size=1024"],
    ],
    "trace-region-below-demand": [
        ["device=p150", "model=llama8b", "device.trace_region_size=50000000"],
        ["device=p300x2", "model=qwen3_32b", "device.trace_region_size=134217728"],
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
    "program-block": [
        ["runtime.programs.ff1_ff3_prefill.in0_block_w=5"],
        ["runtime.programs.ff1_ff3.in0_block_w=7"],
        ["runtime.programs.ff2_decode.in0_block_w=4"],
        ["runtime.programs.qkv.cores=7"],
        ["runtime.programs.qkv_decode.cores=4", "runtime.programs.qkv_decode.in0_block_w=5"],
        ["device=t3k", "model=llama8b", "runtime.programs.o_prefill.in0_block_w=32"],
        ["runtime.programs.lm_head.in0_block_w=2"],
        ["runtime.programs.ff1_ff3_prefill.columns=9"],
        ["runtime.programs.ff2_prefill.rows=99"],
        ["runtime.programs.ff2_prefill.columns=4"],
        ["runtime.programs.ff1_ff3_prefill.out_subblock_h=5"],
        ["runtime.programs.ff1_ff3_prefill.out_subblock_w=7"],
        ["runtime.programs.ff1_ff3_prefill.per_core_n=1", "runtime.programs.ff1_ff3_prefill.out_subblock_w=1"],
        ["runtime.programs.ff1_ff3_decode.readers_per_bank=4"],
        ["runtime.programs.ff1_ff3_decode.per_core_m=2"],
        ["runtime.programs.lm_head.per_core_m=2"],
        ["runtime.programs.ff1_ff3_prefill.per_core_m=5"],
        ["runtime.programs.sdpa_decode.columns=1", "workload.batch=32"],
        ["runtime.programs.sdpa.columns=2", "runtime.programs.sdpa.rows=2", "workload.batch=32"],
        ["device=n300", "model=llama8b", "runtime.programs.ff1_ff3_decode.per_core_n=1"],
        ["runtime.programs.sdpa.columns=20"],
        ["runtime.programs.sdpa_prefill.q_chunk_size=100"],
        ["runtime.programs.sdpa_prefill.k_chunk_size=48"],
        ["runtime.programs.sdpa_decode.k_chunk_size=48"],
        ["runtime.programs.sdpa_decode.k_chunk_size=96", "workload.context=384"],
        ["runtime.programs.sdpa_prefill.k_chunk_size=0"],
        ["runtime.programs.sdpa.k_chunk_size=0"],
        ["runtime.programs.ff1_ff3.in0_block_w=99999999999999999999"],
        ["runtime.programs.ff1_ff3.cores=99999999999999999999"],
        ["memory.use_width_sharding=false", "runtime.programs.lm_head.in0_block_w=4"],
    ],
    "exp-approx-decode": [
        ["runtime.programs.sdpa_decode.exp_approx_mode=false"],
        ["runtime.programs.sdpa.exp_approx_mode=false"],
        ["runtime.programs.sdpa.exp_approx_mode=true", "runtime.programs.sdpa_decode.exp_approx_mode=false"],
        [
            "runtime.programs.sdpa.exp_approx_mode=false",
            "runtime.programs.sdpa_prefill.exp_approx_mode=true",
            "runtime.programs.sdpa_decode.exp_approx_mode=false",
        ],
    ],
    "program-unused": [
        ["runtime.programs.ff1_ff3_decode.out_subblock_w=1"],
        ["memory.use_width_sharding=false", "runtime.programs.ff1_ff3_decode.cores=2"],
        ["runtime.programs.lm_head.rows=1", "runtime.programs.ff2.cores=16"],
    ],
    "experts-absent": [
        ["precision.experts=BFP4"],
        ["precision.router=BFP8", "compute.router.math_fidelity=LoFi", "compute.experts.fp32_dest_acc_en=true"],
    ],
    "cluster-file-unread": [["device.cluster_file=system_yaml", "task=performance"]],
    "prefill-chunk-thousands": [
        [f"device.max_prefill_chunk_size={chunk}", "model=llama8b", "device=t3k"] for chunk in (32, 128)
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
    assert all(finding.what and finding.why for finding in before)
    assert kind in {finding.id for finding in before}
    for way in ways(finding.fix for finding in of_kind(kind, before)):
        assert way
        after = findings(typed_instead(asked, way))
        assert kind not in {finding.id for finding in after}, way
        assert errors(after) <= errors(before), way


# Fixes that leave a choice: what the fix says, and one such choice.
CHOICES = [
    (
        "parallelism-mesh",
        ["device=t3k", "model=llama8b", *_split(4, 1, 1)],
        "Set parallelism.* so that the product is 8.",
        _split(4, 1, 2),
    ),
    ("batch-over-maximum", ["workload.batch=33"], "Set workload.batch to at most 32", ["workload.batch=32"]),
    (
        "batch-over-maximum",
        ["device=t3k", "model=llama8b", "workload.batch=33", *_split(8, 1, 1)],
        "use more data-parallel groups",
        _split(4, 1, 2),
    ),
    (
        "context-over-model",
        ["workload.context=8193"],
        "Set workload.context to at most 8192",
        ["workload.context=8192"],
    ),
    (
        "context-over-model",
        ["workload.prompt_length=8193"],
        "Set workload.prompt_length to at most 8192",
        ["workload.prompt_length=8192"],
    ),
    ("context-over-model", ["workload.context=8193"], "or raise model.max_context", ["model.max_context=8193"]),
    (
        "beyond-ttnn",
        ["model=gemma3_1b", "model.config.attn_logit_softcapping=50", "backend=ttnn"],
        "Use backend=emulated",
        ["backend=emulated"],
    ),
    (
        "uneven-heads",
        ["model.head_dim=80"],
        "Take a model whose head_dim is a multiple of 32",
        ["model.head_dim=96"],
    ),
    (
        "fidelity-below-format",
        ["compute.ff2.math_fidelity=LoFi"],
        "or use a narrower format",
        ["precision.ff2=BFP4"],
    ),
    (
        "bfp4-long-context",
        ["model=llama1b", "workload.context=32769"],
        "Measure at the length you need, or use BFP8.",
        ["precision.ff1_ff3=BFP8"],
    ),
    (
        "throttle-level",
        ["compute.mlp.throttle_level=6"],
        "Set it to a level from 0 to 5.",
        ["compute.mlp.throttle_level=5"],
    ),
    (
        "dram-narrow",
        ["model=llama8b", "workload.context=62000"],
        "or use fewer users, a shorter context or narrower formats",
        ["workload.context=49152"],
    ),
    (
        "dram-overflow",
        ["model=llama8b", "workload.batch=32", "workload.context=8192"],
        "At most 7 users per group with 8192 tokens each fit.",
        ["workload.batch=7"],
    ),
    (
        "dram-overflow",
        ["model=llama8b", "workload.context=131072"],
        "At most 62240 tokens per user fit.",
        ["workload.context=62240"],
    ),
    (
        "dram-overflow",
        [
            "model=llama70b",
            "device=bh_galaxy",
            "workload.batch=32",
            "workload.context=32768",
            "precision.kv_cache=BF16",
        ],
        "It does not fit on any known device: use narrower formats.",
        ["precision.kv_cache=BFP8"],
    ),
    (
        "calibrated-weights-unused",
        ["quantize.calibrated={ff2: 0..3}", "task=accuracy"],
        "then add quantize.weights=DIR",
        ["quantize.weights=DIR"],
    ),
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


def test_every_kind_of_finding_has_its_fix_tried():
    assert {kind.id for kind in declared()} == {*PRINTED, *(kind for kind, *_ in CHOICES)}


VALUES = {
    "device": groups()["device"],
    "model": [option for option in groups()["model"] if option != "hf"],
    "precision": groups()["precision"],
    "workload.batch": [2, 3, 31, 32, 33, 65, 256],
    "workload.context": [1, 1000, 8193, 32769, 131072],
    "workload.prompt_length": [1, 1000, 32769],
    "device.max_prefill_chunk_size": [1, 31, 33, 1024, 131072, 200000],
    "device.max_batch_size": [1, 3, 33, 100],
    "device.trace_region_size": [0, 2_000_000_000],
    "model.max_context": [16, 1000, 200000],
    "memory.kv_cache_placement": ["L1", "DRAM"],
    "runtime.dram_readers_per_bank": [1, 2],
    "runtime.programs.sdpa.k_chunk_size": [0, 32, 48, 128, 512],
    "model.sliding_window": [1, 32, 4096],
    "precision.embedding": ["BFP4", "BFP8", "BF16"],
    "parallelism.tensor_parallel_size": [1, 2, 3, 8, 32],
    "parallelism.pipeline_parallel_size": [2, 4, 64],
    "parallelism.data_parallel_size": [2, 4, 8],
    "parallelism.sequence_parallel": ["true"],
    "layers": [_layers(*changed)[7:] for changed in (("0", "BF16", "LoFi"), ("1..3, -1", "BFP4", "HiFi2"))],
    **{f"precision.{group}": ["BFP4", "BFP8", "BF16"] for group in ("mlp_weights", "wo", "kv_cache", "lm_head")},
    **{f"compute.{group}.math_fidelity": ["LoFi", "HiFi2", "HiFi4"] for group in ("mlp", "attention", "o", "ff2")},
}
command_lines = st.lists(st.sampled_from(sorted(VALUES)), max_size=8, unique=True).flatmap(
    lambda keys: st.tuples(*(st.sampled_from([f"{key}={value}" for value in VALUES[key]]) for key in keys))
)
# What a fix cannot know: whether more users fit, or as many on a split that the chips allow; and DRAM is looked at when
# nothing else is wrong.
LATER = {"dram-overflow", "kv-cache-over-l1", "batch-over-maximum"}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(command_lines)
def test_whatever_is_typed_what_a_fix_prints_makes_the_finding_go(asked):
    try:
        before = findings(asked)
    except ConfigError:
        return
    for kind in {finding.id for finding in before} & {*PRINTED}:
        for way in ways(finding.fix for finding in of_kind(kind, before)):
            after = findings(typed_instead(asked, way))
            left = [finding for finding in of_kind(kind, after) if not typed_alike(finding, before)]
            assert not left, (kind, way)
            assert errors(after) <= errors(before) | LATER, (kind, way)


def typed_alike(finding, before):
    """Whether it is of layers that were typed like the whole model, which is said first."""
    return " in layer" in finding.what and finding.what not in {known.what for known in before}
