# SPDX-License-Identifier: Apache-2.0
"""Where each check begins to find something: the last value that passes, and the first that does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from finding_cases import findings, of_kind

from places import DATA
from tt_transformers_v2.config.checks import check
from tt_transformers_v2.config.expert_groups import ABSENT, expert_findings
from tt_transformers_v2.config.findings import declared
from tt_transformers_v2.config.layers import layer_entry
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.huggingface_config import huggingface_spec

# SmolLM2-135M on one chip unless said otherwise: 30 layers, 9 heads, 3 KV heads of 64, a context of 8192.
LLAMA_8B_T3K = ["device=t3k", "model=llama8b"]  # 32 heads, 8 KV heads, 8 chips
# The cache of one user of 128 tokens: keys and values, 30 layers, 3 heads, 4 x 2 tiles of BFP8; a 64th of it per core.
CACHE_PER_CORE = 2 * 30 * 3 * (4 * 2) * 1088 // 64
LLAMA_1B = ["model=llama1b"]  # a context of 131072, FF1 and FF3 in BFP4


def split(tensor=1, pipeline=1, data=1):
    sizes = {"tensor": tensor, "pipeline": pipeline, "data": data}
    return [f"parallelism.{kind}_parallel_size={size}" for kind, size in sizes.items()]


def kv_cache_in_l1(*more, per_core=CACHE_PER_CORE):
    return ["memory.kv_cache_placement=L1", f"device.l1_memory_size={per_core}", *more]


CAPPED = ["model=gemma3_1b", "model.config.attn_logit_softcapping=50"]


def heads_of(head_dim):
    return [f"model.head_dim={head_dim}"]


_TWO_GROUPS = [f"parallelism.{kind}_parallel_size={size}" for kind, size in (("tensor", 1), ("data", 2))]
TWO_READERS = ["runtime.dram_readers_per_bank=2"]


def with_qkv(width):
    """A P150 with QKV weights of so many columns, which two cores of a bank read."""
    heads = ["model.head_dim=32", "model.num_kv_heads=1", f"model.num_heads={width // 32 - 2}"]
    return ["device=p150", readers(2), *heads]


def readers(number, group="qkv"):
    return f"runtime.programs.{group}.readers_per_bank={number}"


def typed(group, *fields):
    return [f"runtime.programs.{group}.{field}" for field in fields]


def chunk(keys, group="sdpa_decode"):
    return f"runtime.programs.{group}.k_chunk_size={keys}"


def traces(size, device="p150", model="llama8b"):
    return [f"device={device}", f"model={model}", f"device.trace_region_size={size}"]


SERVED = ["workload.batch=8", "runtime.stack=vllm"]
BATCHED = ["workload.batch=8", "runtime.prefill=batched"]
PAIRS = {
    "server-places": [
        ("as many as users", [*SERVED, "runtime.max_num_seqs=8"], [*SERVED, "runtime.max_num_seqs=7"]),
        ("32 of a device", [*SERVED, "runtime.max_num_seqs=32"], [*SERVED, "runtime.max_num_seqs=33"]),
        (
            "the device's own maximum",
            [*SERVED, "device.max_batch_size=8"],
            [*SERVED, "device.max_batch_size=8", "runtime.max_num_seqs=9"],
        ),
        ("read", [*SERVED, "runtime.max_num_seqs=16"], ["workload.batch=8", "runtime.max_num_seqs=16"]),
    ],
    "prefill-users": [
        ("batched", [*BATCHED, "workload.prefill_users=8"], [*BATCHED, "workload.prefill_users=9"]),
        ("read", [*BATCHED, "workload.prefill_users=1"], ["workload.batch=8", "workload.prefill_users=1"]),
    ],
    "parallelism-mesh": [
        ("fewer than its chips", LLAMA_8B_T3K + split(8), LLAMA_8B_T3K + split(4)),
        ("more than its chips", LLAMA_8B_T3K + split(4, 2, 1), LLAMA_8B_T3K + split(4, 2, 2)),
        ("stages count", LLAMA_8B_T3K + split(2, 2, 2), LLAMA_8B_T3K + split(2, 3, 2)),
    ],
    "tensor-parallel-heads": [
        ("as many KV heads as chips", LLAMA_8B_T3K + split(8), [*LLAMA_8B_T3K, "model.num_kv_heads=4", *split(8)]),
        ("heads a multiple of chips", LLAMA_8B_T3K + split(4, 1, 2), LLAMA_8B_T3K + split(3)),
        ("a preset is narrowed", ["device=t3k"], ["device=t3k", *split(8)]),
    ],
    "pipeline-layers": [
        ("a stage for each layer", [*LLAMA_1B, "device=tg", *split(1, 16, 2)], [*LLAMA_1B, "device=tg", *split(1, 17)]),
    ],
    "sequence-parallel-alone": [
        (
            "tensor parallelism of 2",
            ["device=n300", "model=llama8b", "parallelism.sequence_parallel=true"],
            ["device=n150", "model=llama8b", "parallelism.sequence_parallel=true"],
        ),
        ("only where it is asked for", split(1), [*split(1), "parallelism.sequence_parallel=true"]),
    ],
    "batch-over-maximum": [
        ("32 users of one group", ["workload.batch=32"], ["workload.batch=33"]),
        ("32 users in each of 8", ["device=t3k", "workload.batch=256"], ["device=t3k", "workload.batch=257"]),
        (
            "the device's own maximum",
            ["device.max_batch_size=5", "workload.batch=5"],
            ["device.max_batch_size=5", "workload.batch=6"],
        ),
    ],
    "batch-size": [
        *(
            (f"{size} and one more", [f"workload.batch={size}"], [f"workload.batch={size + 1}"])
            for size in (2, 4, 8, 16)
        ),
        *(
            (f"{size} and one fewer", [f"workload.batch={size}"], [f"workload.batch={size - 1}"])
            for size in (4, 8, 16, 32)
        ),
        ("one user", ["workload.batch=1"], ["workload.batch=3"]),
        ("users of a group", ["device=t3k", "workload.batch=16"], ["device=t3k", "workload.batch=17"]),
        ("the fullest group", ["device=t3k", "workload.batch=25"], ["device=t3k", "workload.batch=24"]),
        ("too many are not said twice", ["workload.batch=33"], ["device.max_batch_size=33", "workload.batch=33"]),
    ],
    "context-over-model": [
        ("context", ["workload.context=8192"], ["workload.context=8193"]),
        ("prompt", ["workload.prompt_length=8192"], ["workload.prompt_length=8193"]),
        (
            "prompt beside a shorter context",
            ["workload.prompt_length=8192", "workload.context=1"],
            ["workload.prompt_length=8193", "workload.context=1"],
        ),
    ],
    "prefill-chunk-over-context": [
        ("whole tiles", ["device.max_prefill_chunk_size=8192"], ["device.max_prefill_chunk_size=8224"]),
        *(
            (
                f"a context of {context}",
                [f"model.max_context={context}", "device.max_prefill_chunk_size=1024"],
                [f"model.max_context={context}", "device.max_prefill_chunk_size=1056"],
            )
            for context in (993, 1024)
        ),
    ],
    "cluster-file-unread": [
        (
            "a preflight reads it",
            ["device.cluster_file=system_yaml", "task=preflight"],
            ["device.cluster_file=system_yaml", "task=performance"],
        ),
    ],
    "calibrated-weights-unused": [
        (
            "with and without the folder",
            ["quantize.calibrated={ff2: 0}", "quantize.weights=DIR", "task=accuracy"],
            ["quantize.calibrated={ff2: 0}", "task=accuracy"],
        ),
        (
            "where no weights are measured",
            ["quantize.calibrated={ff2: 0}", "task=performance"],
            ["quantize.calibrated={ff2: 0}", "task=both"],
        ),
    ],
    "prefill-chunk-thousands": [
        (f"{typed[0]} and {typed[1]}", *([f"device.max_prefill_chunk_size={chunk}"] for chunk in typed))
        for typed in ((160, 128), (31, 32))
    ],
    "prefill-chunk-tiles": [
        *(
            (f"32 and {chunk}", ["device.max_prefill_chunk_size=32"], [f"device.max_prefill_chunk_size={chunk}"])
            for chunk in (1, 31, 33)
        ),
        ("64 and 63", ["device.max_prefill_chunk_size=64"], ["device.max_prefill_chunk_size=63"]),
    ],
    "unsupported-in-tt-transformers": [
        ("a chunk", ["model=qwen2_5_32b", "device=t3k"], ["model=qwen2_5_32b", "device=n300"]),
        ("no entry", ["model=qwen2_5_32b", "device=p150"], ["model=qwen2_5_32b", "device=n150"]),
    ],
    "trace-region-below-demand": [
        ("as much as traces took", traces(60825600), traces(60825599)),
        ("nothing is fixed", traces(0), traces(1)),
        ("where nothing is known", traces(1, device="p100"), traces(1)),
        ("a shape like that", traces(1, model="llama3b"), traces(1, model="deepseek_r1_distill_llama_8b")),
    ],
    "kv-cache-over-l1": [
        ("just its bytes", kv_cache_in_l1(), kv_cache_in_l1(per_core=CACHE_PER_CORE - 1)),
        ("more than its bytes", kv_cache_in_l1(per_core=CACHE_PER_CORE + 1), kv_cache_in_l1("workload.batch=4")),
        ("one more row of tiles", kv_cache_in_l1(), kv_cache_in_l1("workload.context=129")),
        ("one more user", kv_cache_in_l1("workload.batch=1"), kv_cache_in_l1("workload.batch=2")),
        ("a wider format", kv_cache_in_l1(), kv_cache_in_l1("precision.kv_cache=BF16")),
        ("in DRAM", [*kv_cache_in_l1(per_core=1)[1:]], kv_cache_in_l1(per_core=1)),
    ],
    "kv-cache-in-l1": [
        ("a preset's", ["precision=accuracy"], ["precision=accuracy", "memory.kv_cache_placement=L1"]),
        ("DRAM", ["memory.kv_cache_placement=DRAM"], ["memory.kv_cache_placement=L1"]),
    ],
    "uneven-heads": [
        *(
            (f"{passing} and {wide}", heads_of(passing), heads_of(wide))
            for passing, wide in ((32, 30), (32, 34), (64, 48), (64, 80), (96, 100), (128, 126))
        ),
    ],
    "beyond-ttnn": [
        ("norms after each, soft caps", ["task=preflight", "model=gemma3_1b"], ["task=preflight", *CAPPED]),
        ("asked of ttnn", CAPPED, ["backend=ttnn", *CAPPED]),
    ],
    "dram-readers": [
        ("Wormhole has one", ["runtime.dram_readers_per_bank=1"], TWO_READERS),
        ("Blackhole has two", ["device=p150", readers(2)], ["device=n150", readers(2)]),
        ("Blackhole has three", ["device=p150", readers(3, "ff1_ff3")], ["device=n150", readers(3, "ff1_ff3")]),
        ("4 tiles of a bank", ["device=p150", readers(2)], ["device=p150", readers(3)]),
        ("3 tiles of a bank", ["device=p150", readers(3, "o")], ["device=p150", readers(2, "o")]),
        ("unset is one", [], TWO_READERS),
        ("9 tiles in 8 banks", with_qkv(288), with_qkv(256)),
        ("8 tiles in 7 banks", ["device=p100", *with_qkv(256)[1:]], ["device=p100", *with_qkv(224)[1:]]),
        (
            "programs of their own",
            ["device=p150", *TWO_READERS, readers(1, "o"), readers(1, "ff2")],
            ["device=p150", *TWO_READERS, readers(1, "o")],
        ),
        (
            "typed for the phase",
            ["runtime.programs.ff2_prefill.columns=1"],
            ["runtime.programs.ff2_decode.readers_per_bank=2"],
        ),
        ("weights that are not spread", ["memory.use_width_sharding=false", *TWO_READERS], TWO_READERS),
        ("weights in L1", ["memory.weights_placement=L1", *TWO_READERS], TWO_READERS),
    ],
    "attention-chunk": [
        ("ttnn's own chunks", [chunk(0)], [chunk(0), "model.sliding_window=127"]),
        ("a window of a chunk", [chunk(0), "model.sliding_window=128"], [chunk(0), "model.sliding_window=127"]),
        ("both phases", [chunk(32, "sdpa")], [chunk(0, "sdpa"), "model.sliding_window=32"]),
        (
            "16-bit Dst holds more",
            [chunk(0), "model.sliding_window=256", "compute.sdpa.fp32_dest_acc_en=false"],
            [chunk(0), "model.sliding_window=255", "compute.sdpa.fp32_dest_acc_en=false"],
        ),
        ("whole tiles", [chunk(64)], [chunk(48)]),
        ("the end of the cache", [chunk(128)], [chunk(256)]),
        ("a longer cache", [chunk(256), "workload.context=129"], [chunk(96), "workload.context=129"]),
        ("what Dst takes", [chunk(128), "workload.context=768"], [chunk(192), "workload.context=768"]),
    ],
    "embedding-format": [
        ("BF16", ["precision.embedding=BF16"], ["precision.embedding=BFP4"]),
        ("BFP8", ["precision.embedding=BFP8"], ["precision.embedding=BFP4"]),
    ],
    "embedding-unpacked": [
        ("BF16", ["precision.embedding=BF16"], ["precision.embedding=BFP8"]),
        ("BFP4", ["precision.embedding=BFP4"], ["precision.embedding=BFP8"]),
    ],
    "wormhole-hifi4-fp32": [
        ("HiFi3", ["compute.attention.math_fidelity=HiFi3"], ["compute.attention.math_fidelity=HiFi4"]),
        (
            "no fp32",
            ["compute.lm_head.math_fidelity=HiFi4", "compute.lm_head.fp32_dest_acc_en=false"],
            ["compute.lm_head.math_fidelity=HiFi4", "compute.lm_head.fp32_dest_acc_en=true"],
        ),
        (
            "Blackhole",
            ["device=p150", "compute.attention.math_fidelity=HiFi4"],
            ["device=n150", "compute.attention.math_fidelity=HiFi4"],
        ),
        ("norms", ["compute.norm.math_fidelity=HiFi4"], ["compute.o_decode.math_fidelity=HiFi4"]),
    ],
    "bfp4-long-context": [
        ("context", [*LLAMA_1B, "workload.context=32768"], [*LLAMA_1B, "workload.context=32769"]),
        ("prompt", [*LLAMA_1B, "workload.prompt_length=32768"], [*LLAMA_1B, "workload.prompt_length=32769"]),
        *(
            (
                f"{group} in BFP4",
                [*LLAMA_1B, "precision.ff1_ff3=BFP8", f"precision.{group}=BFP8", "workload.context=65536"],
                [*LLAMA_1B, "precision.ff1_ff3=BFP8", f"precision.{group}=BFP4", "workload.context=65536"],
            )
            for group in ("ff2", "wqkv", "wo", "kv_cache")
        ),
        (
            "BF16",
            [*LLAMA_1B, "precision.ff1_ff3=BFP8", "precision.kv_cache=BF16", "workload.context=65536"],
            [*LLAMA_1B, "precision.kv_cache=BF16", "workload.context=65536"],
        ),
        (
            "an LM head in BFP4",
            [*LLAMA_1B, "precision.ff1_ff3=BFP8", "precision.lm_head=BFP4", "workload.context=65536"],
            [*LLAMA_1B, "precision.lm_head=BFP4", "workload.context=65536"],
        ),
    ],
    "program-block": [
        ("18 tiles", ["runtime.programs.qkv_prefill.in0_block_w=3"], ["runtime.programs.qkv_prefill.in0_block_w=4"]),
        ("a core's tile", ["runtime.programs.qkv_decode.in0_block_w=1"], ["runtime.programs.qkv_decode.in0_block_w=2"]),
        ("cores", ["runtime.programs.qkv_decode.cores=9"], ["runtime.programs.qkv_decode.cores=8"]),
        ("columns of the device", typed("ff1_ff3_prefill", "columns=8"), typed("ff1_ff3_prefill", "columns=9")),
        ("rows of the device", typed("ff1_ff3_prefill", "rows=8"), typed("ff1_ff3_prefill", "rows=9")),
        ("rows of the output", typed("ff1_ff3_prefill", "rows=4"), typed("ff1_ff3_prefill", "rows=3")),
        ("tiles of rows", typed("ff1_ff3_prefill", "per_core_m=4"), typed("ff1_ff3_prefill", "per_core_m=5")),
        (
            "of a prompt in parts",
            [*typed("ff1_ff3_prefill", "per_core_m=32", "out_subblock_h=1"), "workload.prompt_length=2048"],
            [*typed("ff1_ff3_prefill", "per_core_m=33", "out_subblock_h=1"), "workload.prompt_length=2048"],
        ),
        (
            "Dst",
            [*typed("ff1_ff3_prefill", "per_core_n=8", "out_subblock_w=8"), "compute.mlp.fp32_dest_acc_en=false"],
            [*typed("ff1_ff3_prefill", "per_core_n=9", "out_subblock_w=9"), "compute.mlp.fp32_dest_acc_en=false"],
        ),
        (
            "Dst in fp32",
            typed("ff1_ff3_prefill", "per_core_n=8", "out_subblock_w=4"),
            typed("ff1_ff3_prefill", "per_core_n=8", "out_subblock_w=8"),
        ),
        ("a row of tiles in decode", typed("ff1_ff3_decode", "per_core_m=1"), typed("ff1_ff3_decode", "per_core_m=2")),
        (
            "cores of the device",
            ["model=llama8b", *typed("ff2_decode", "per_core_n=2")],
            ["model=llama8b", *typed("ff2_decode", "per_core_n=1")],
        ),
        ("readers", ["device=p150", readers(3, "ff1_ff3")], ["device=p150", readers(4, "ff1_ff3")]),
        (
            "cores of a one-dimensional multicast",
            ["memory.use_width_sharding=false", *typed("ff1_ff3_decode", "per_core_n=2", "columns=4", "rows=6")],
            ["memory.use_width_sharding=false", *typed("ff1_ff3_decode", "per_core_n=2", "columns=4", "rows=5")],
        ),
        ("attention's columns", typed("sdpa", "columns=8"), typed("sdpa", "columns=9")),
        ("attention's rows", typed("sdpa", "rows=8"), typed("sdpa", "rows=9")),
        ("chunks of tiles", typed("sdpa_prefill", "q_chunk_size=96"), typed("sdpa_prefill", "q_chunk_size=80")),
        (
            "chunks of decode",
            [*typed("sdpa_decode", "k_chunk_size=128"), "workload.context=384"],
            [*typed("sdpa_decode", "k_chunk_size=96"), "workload.context=384"],
        ),
        ("chunks left to ttnn", typed("sdpa_decode", "k_chunk_size=0"), typed("sdpa_prefill", "k_chunk_size=0")),
        ("decode's queries", typed("sdpa_decode", "q_chunk_size=80"), typed("sdpa", "q_chunk_size=80")),
        (
            "a core for each user",
            ["workload.batch=32", *typed("sdpa_decode", "columns=4")],
            ["workload.batch=32", *typed("sdpa_decode", "columns=3")],
        ),
        (
            "users of a group",
            ["device=n300", *_TWO_GROUPS, "workload.batch=32", *typed("sdpa_decode", "columns=4", "rows=4")],
            ["device=n300", *_TWO_GROUPS, "workload.batch=32", *typed("sdpa_decode", "columns=3", "rows=5")],
        ),
        (
            "prompts have no users",
            ["workload.batch=32", *typed("sdpa_prefill", "columns=1", "rows=1")],
            ["workload.batch=32", *typed("sdpa_decode", "columns=1", "rows=1")],
        ),
    ],
    "exp-approx-decode": [
        ("true", typed("sdpa_decode", "exp_approx_mode=true"), typed("sdpa_decode", "exp_approx_mode=false")),
        ("prefill", typed("sdpa_prefill", "exp_approx_mode=false"), typed("sdpa", "exp_approx_mode=false")),
        (
            "the phase's wins",
            [*typed("sdpa", "exp_approx_mode=false"), *typed("sdpa_decode", "exp_approx_mode=true")],
            [*typed("sdpa", "exp_approx_mode=true"), *typed("sdpa_decode", "exp_approx_mode=false")],
        ),
    ],
    "program-unused": [
        (
            "decode's fields",
            ["runtime.programs.qkv_decode.cores=9"],
            ["runtime.programs.qkv_decode.cores=9", "memory.use_width_sharding=false"],
        ),
        (
            "an interleaved matmul's",
            ["runtime.programs.qkv_decode.columns=8", "memory.use_width_sharding=false"],
            ["runtime.programs.qkv_decode.columns=8"],
        ),
    ],
    "throttle-level": [
        ("5 and 6", ["compute.mlp.throttle_level=5"], ["compute.mlp.throttle_level=6"]),
        ("0 and -1", ["compute.norm.throttle_level=0"], ["compute.norm.throttle_level=-1"]),
        ("a finer group", ["compute.o_decode.throttle_level=5"], ["compute.o_decode.throttle_level=6"]),
    ],
}


@pytest.mark.parametrize(
    ("kind", "passing", "found"),
    [
        pytest.param(kind, passing, found, id=f"{kind}: {name}")
        for kind, pairs in PAIRS.items()
        for name, passing, found in pairs
    ],
)
def test_a_check_begins_just_there(kind, passing, found):
    assert not of_kind(kind, findings(passing))
    assert of_kind(kind, findings(found))


def test_every_check_has_its_limits_tried():
    """Those of memory are in test_memory_adjustments.py."""
    assert {kind.id for kind in declared()} == {*PAIRS, BELOW, ABOVE, ABSENT, "dram-overflow", "dram-narrow"}


@pytest.mark.parametrize("path", ["precision.experts", "compute.router.math_fidelity"])
def test_settings_of_experts_are_for_models_that_have_some(path):
    dense, sparse = (huggingface_spec(DATA / "families" / name) for name in ("llama_biases", "mixtral"))
    (found,) = expert_findings(dense, {path, "precision.ff2", "model.name"}, [])
    assert (found.id, found.fix) == (ABSENT, f"Compose it, without {path}.")
    assert not expert_findings(sparse, {path}, [])
    section, group, *field = path.split(".")
    entry = {"select": "0", section: {group: {field[0]: "LoFi"} if field else "BFP4"}}
    for origin, number in (("", 1), ("configuration file", 0)):  # a tuning may be meant for several models
        assert len(expert_findings(dense, (), [layer_entry(entry, origin=origin)])) == number


BELOW, ABOVE = "fidelity-below-format", "fidelity-above-format"
READS = [
    ("BFP4", "LoFi", None),
    ("BFP4", "HiFi2", ABOVE),
    ("BFP4", "HiFi3", None),
    ("BFP4", "HiFi4", None),
    ("BFP8", "LoFi", BELOW),
    ("BFP8", "HiFi2", None),
    ("BFP8", "HiFi4", None),
    ("BF16", "LoFi", BELOW),
    ("BF16", "HiFi2", None),
    ("BF16", "HiFi4", None),
]
READERS = [
    ("ff1_ff3", "ff1_ff3"),
    ("ff2", "ff2"),
    ("wqkv", "qkv_decode"),
    ("wqkv", "qkv_prefill"),
    ("wo", "o_decode"),
    ("wo", "o_prefill"),
    ("lm_head", "lm_head"),
]


@pytest.mark.parametrize(("format", "fidelity", "kind"), READS)
@pytest.mark.parametrize(("tensor", "op"), READERS)
def test_every_matmul_is_checked_for_what_its_fidelity_reads_of_its_weights(tensor, op, format, fidelity, kind):
    """The other matmuls are at HiFi3, which no format is too wide or too narrow for."""
    config = AutoHardwareConfig.custom(
        "P150",
        precision={tensor: format},
        compute={group: {"math_fidelity": "HiFi3"} for group in ("mlp", "attention", "lm_head")}
        | {op: {"math_fidelity": fidelity}},
    )
    found = check(config, SMALL, batch=1, context=128)
    assert [(each.id, op in each.what, tensor in each.what) for each in found] == ([(kind, True, True)] if kind else [])


SMALL = SimpleNamespace(num_layers=2, num_heads=8, num_kv_heads=8, head_dim=64, max_context=131072)


@pytest.mark.parametrize(("heads", "kv_heads", "fits"), [(8, 8, True), (16, 8, True), (12, 8, False), (16, 4, False)])
def test_heads_and_kv_heads_must_both_divide(heads, kv_heads, fits):
    model = SimpleNamespace(**vars(SMALL) | {"num_heads": heads, "num_kv_heads": kv_heads})
    found = check(AutoHardwareConfig.from_device("T3K"), model, batch=1, context=128)
    assert bool(of_kind("tensor-parallel-heads", found)) is not fits


@pytest.mark.parametrize("chunk", [-32, -1, 0])
def test_a_chunk_that_only_python_can_set_must_be_whole_tiles_too(chunk):
    config = AutoHardwareConfig.from_device("N150")
    config.max_prefill_chunk_size = chunk
    (found,) = of_kind("prefill-chunk-tiles", check(config, SMALL, batch=1, context=128))
    assert found.fix == "Set device.max_prefill_chunk_size=32."


def test_a_short_prompt_is_assumed_where_none_is_given():
    config = AutoHardwareConfig.custom("P150", max_prefill_chunk_size=128)
    for longest, found in ((128, []), (127, ["context-over-model"])):
        model = SimpleNamespace(**vars(SMALL) | {"max_context": longest})
        assert [each.id for each in check(config, model, batch=1, context=1)] == found


def test_errors_come_first_and_hints_last():
    asked = ["device.max_prefill_chunk_size=33000", "workload.batch=3", "compute.mlp.throttle_level=9"]
    severities = [str(finding.severity) for finding in findings(asked)]
    assert severities == ["error", "error", "error", "warning", "hint"]


TEXTS = [
    (
        ["device=n150", "parallelism.data_parallel_size=2"],
        "tensor x pipeline x data parallel is 1 x 1 x 2 = 2, but N150 has 1 chip. Every chip belongs to exactly one "
        "group. Set parallelism.* so that the product is 1.",
    ),
    (
        ["device=n300", "model=llama8b", *split(1, 3, 2)],
        "tensor x pipeline x data parallel is 1 x 3 x 2 = 6, but N300 has 2 chips. Every chip belongs to exactly one "
        "group. Set parallelism.* so that the product is 2.",
    ),
    (
        [*LLAMA_8B_T3K, "model.num_kv_heads=4", *split(8)],
        "32 heads and 4 KV heads do not divide over 8 chips. tt_transformers gives each chip whole heads. Set "
        "parallelism.tensor_parallel_size=4 and parallelism.data_parallel_size=2.",
    ),
    (
        [*LLAMA_1B, "device=tg", *split(2, 17, 1)],
        "17 pipeline stages for 16 layers. Every stage needs at least one layer. Set "
        "parallelism.pipeline_parallel_size=16 and parallelism.data_parallel_size=1.",
    ),
    (
        ["device=t3k", "workload.batch=257"],
        "workload.batch is 257; T3K takes at most 256 users here. Decode holds one user per row of a 32-row tile. Set "
        "workload.batch to at most 256, or use more data-parallel groups.",
    ),
    (
        ["device=t3k", "workload.batch=17"],
        "tt_transformers does not run 3 users per data-parallel group. Its batch sizes are 1, 2, 4, 8, 16, 32. Set "
        "workload.batch=16 or workload.batch=32.",
    ),
    *(
        (
            [f"device.max_batch_size={most}", "workload.batch=3"],
            "tt_transformers does not run 3 users per data-parallel group. Its batch sizes are 1, 2, 4, 8, 16, 32. Set "
            f"{sizes}.",
        )
        for most, sizes in ((3, "workload.batch=2"), (4, "workload.batch=2 or workload.batch=4"))
    ),
    (
        ["device.max_batch_size=33", "workload.batch=33"],
        "tt_transformers does not run 33 users per data-parallel group. Its batch sizes are 1, 2, 4, 8, 16, 32. Set "
        "workload.batch=32.",
    ),
    (
        ["model=deepseek_r1_distill_qwen_14b", "device=tg"],
        "tt_transformers does not run DeepSeek-R1-Distill-Qwen-14B on TG. Its prefill chunk table says so. Choose a "
        "device that the table has a chunk for (N150, N300, T3K), or expect to bring it up yourself.",
    ),
    (
        ["model.max_context=1000", "device.max_prefill_chunk_size=2048"],
        "max_prefill_chunk_size is 2048; the model's context is 1000. A chunk never gets that long. Set "
        "device.max_prefill_chunk_size=1024.",
    ),
    (
        ["device.max_prefill_chunk_size=95"],
        "max_prefill_chunk_size is 95. A chunk must be whole tiles of 32 tokens. Set device.max_prefill_chunk_size=64.",
    ),
    (
        kv_cache_in_l1(
            "workload.batch=32", "workload.context=999999937", "model.max_context=999999937", per_core=10**11 + 9876
        ),
        "memory.kv_cache_placement=L1 needs 391679987.5 MB per chip; L1 holds 6400000.6 MB. That is for 32 users of "
        "999999937 tokens in BFP8. Set memory.kv_cache_placement=DRAM.",
    ),
    (
        [*LLAMA_1B, "workload.context=65536", "workload.prompt_length=32769"],
        "BFP4 in ff1_ff3 at 65536 tokens. At 256k tokens a model's PCC fell to 0.85, although a single layer had "
        "0.9987 (tt-metal PR 53543). Measure at the length you need, or use BFP8.",
    ),
    (
        ["compute.lm_head.math_fidelity=HiFi4", "compute.o.math_fidelity=HiFi4"],
        "HiFi4 with fp32_dest_acc_en in lm_head, o. On Wormhole a hardware bug can make this less accurate than HiFi3 "
        "(tt-metal issue 38306). Use compute.lm_head.math_fidelity=HiFi3, compute.o.math_fidelity=HiFi3.",
    ),
    (
        ["compute.ff2.math_fidelity=LoFi"],
        "ff2 weights are BFP8, but the ff2 matmul runs at LoFi. LoFi reads 5 of the format's significant bits; the "
        "rest costs bandwidth for nothing. Use compute.ff2.math_fidelity=HiFi2, or use a narrower format.",
    ),
]


@pytest.mark.parametrize(("asked", "text"), TEXTS, ids=[" ".join(asked) for asked, _ in TEXTS])
def test_a_finding_says_what_it_is_about(asked, text):
    assert text in [str(finding) for finding in findings(asked)]


# Tensor, pipeline and data parallelism typed; what is advised for heads that do not divide, and for too many stages.
SPLITS = [
    (["device=t3k"], (8, 1, 1), "tensor_parallel_size=1", 8),
    (["device=t3k", "model.num_heads=24", "model.num_kv_heads=4"], (8, 1, 1), "tensor_parallel_size=4", 2),
    (["device=t3k"], (4, 2, 1), "tensor_parallel_size=1", 4),
    (["device=n300"], (2, 4, 1), "tensor_parallel_size=1", 1),
    (["device=tg"], (1, 31, 1), "pipeline_parallel_size=16", 2),
    (["device=tg", "model.num_layers=16"], (1, 32, 1), "pipeline_parallel_size=16", 2),
    (["device=tg", "model.num_layers=15"], (1, 16, 2), "pipeline_parallel_size=8", 4),
    (["device=tg"], (3, 31, 1), "pipeline_parallel_size=10", 1),
    (["device=n300", "model.num_layers=1"], (1, 2, 1), "pipeline_parallel_size=1", 2),
    (["device=t3k", "model=llama8b"], (16, 64, 1), "pipeline_parallel_size=1", 1),
]


@pytest.mark.parametrize(("asked", "sizes", "first", "data"), SPLITS)
def test_a_split_that_the_chips_can_be_shared_out_in_is_advised(asked, sizes, first, data):
    fixes = [finding.fix for finding in findings([*asked, *split(*sizes)])]
    assert f"Set parallelism.{first} and parallelism.data_parallel_size={data}." in fixes


def layers(select, settings):
    return f'layers=[{{select: "{select}", {settings}}}]'


LAYERS = [
    ("3", "precision: {ff1_ff3: BFP8}", "in layer 3."),
    ("-1", "precision: {ff1_ff3: BFP8}", "in layer 29."),
    ("0..2, 7", "precision: {ff1_ff3: BFP8}", "in layers 0..2, 7."),
    ("10..11", "compute: {ff2: {math_fidelity: LoFi}}", "in layers 10..11."),
    ("0, 5", "compute: {mlp: {throttle_level: 6}}", "in layers 0, 5."),
]


@pytest.mark.parametrize(("select", "settings", "where"), LAYERS)
def test_what_layers_have_of_their_own_is_checked_and_said_once(select, settings, where):
    (found, *finer) = findings([layers(select, settings)])
    assert found.what.endswith(f" {where}")
    assert all(each.id == "throttle-level" for each in finer)


def test_layers_that_differ_from_one_another_are_told_apart():
    entries = (
        '{select: "0..1", precision: {ff1_ff3: BFP8}}, {select: "2", precision: {ff1_ff3: BF16}}, '
        '{select: "3", precision: {ff2: BF16}}'
    )
    said = [finding.what for finding in findings([f"layers=[{entries}]"])]
    assert said == [
        "ff1_ff3 weights are BFP8, but the ff1_ff3 matmul runs at LoFi in layers 0..1.",
        "ff1_ff3 weights are BF16, but the ff1_ff3 matmul runs at LoFi in layer 2.",
    ]


def test_what_layers_share_with_the_whole_model_is_not_said_again():
    found = findings(["compute.ff2.math_fidelity=LoFi", layers("3", "precision: {wo: BF16}")])
    assert [finding.what for finding in found] == ["ff2 weights are BFP8, but the ff2 matmul runs at LoFi."]


def test_a_throttle_level_of_a_coarse_group_is_said_for_each_group_that_has_settings():
    groups = [finding.what.split(".")[1] for finding in findings(["compute.mlp.throttle_level=9"])]
    assert groups == ["mlp", "ff2"]
