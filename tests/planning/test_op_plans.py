# SPDX-License-Identifier: Apache-2.0
"""The one door to plans: what it takes into account, and arrays of real programs that its blocks reproduce."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.hardware.op_table import DECODE, LM_HEAD, MATRICES, PREFILL, SDPA
from tt_transformers_v2.hardware.schema import DeviceConfig
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.numerics import matmul
from tt_transformers_v2.planning import plans
from tt_transformers_v2.planning.op_plans import (
    AS_PLANNED,
    FITTED,
    TYPED,
    TYPED_AND_FITTED,
    OpPlans,
    first_layer,
    parts_of,
    unused_programs,
)
from tt_transformers_v2.planning.plans import DramShardedPlan, Multicast1DPlan, MulticastPlan, smaller_plans

W1, W2 = MATRICES["w1"], MATRICES["w2"]
# Columns x rows of the simulated systems, which have no harvested cores.
SIMULATED = {"wormhole": (8, 9), "blackhole": (13, 10)}


def hardware(device: str = "N150", **sections: object) -> DeviceConfig:
    return AutoHardwareConfig.custom(device, **sections)  # type: ignore[arg-type]


@pytest.mark.parametrize("arch", SIMULATED)
def test_a_linear_without_a_program_has_the_bits_of_our_plan_for_it(arch: str) -> None:
    """ttnn.linear 64 x 512 x 128 on Tenstorrent's simulator: HiFi2, bf16 Dst, L1 accumulation, BFP8 weights."""
    with np.load(DATA / "golden" / "auto_program" / f"{arch}.npz") as file:
        x, weight, real = (
            torch.from_numpy((file[name].astype(np.uint32) << 16).view(np.float32))
            for name in ("in0_bf16", "in1_bf16", "out_bf16")
        )

    def different(block: int) -> int:
        how = {"math_fidelity": "HiFi2", "fp32_dest_acc_en": False, "packer_l1_acc": True}
        return int((matmul(x, weight, arch=arch, in0_block_w=block, **how) != real).sum())  # type: ignore[arg-type]

    plan = plans.interleaved_matmul(512, 128, rows=64, grid=SIMULATED[arch], fp32_dest_acc_en=False)
    assert different(plan.in0_block_w) == 0
    assert different(4) > 0.5 * real.numel()


def test_where_weights_lie_decides_the_program_of_decode() -> None:
    sharded = OpPlans(hardware()).matmul(W1, DECODE, 1, 576, 1536)
    assert sharded.plan == DramShardedPlan(cores=18, in0_block_w=1, per_core_m=1, per_core_n=3)
    for memory in ({"use_width_sharding": False}, {"weights_placement": "L1"}):
        plan = OpPlans(hardware(memory=memory)).matmul(W1, DECODE, 1, 576, 1536).plan
        assert isinstance(plan, Multicast1DPlan)
        assert (plan.in0_block_w, plan.per_core_n) == (2, 1)


def test_the_lm_head_is_planned_as_in_decode_in_both_phases() -> None:
    own = OpPlans(hardware())
    assert own.matmul(LM_HEAD, PREFILL, 32, 576, 16384).plan == own.matmul(LM_HEAD, DECODE, 1, 576, 16384).plan


def test_a_long_prompt_is_multiplied_in_parts_that_are_not_fused() -> None:
    planned = OpPlans(hardware(), row_limit=1024).matmul(W1, PREFILL, 4096, 576, 1536)
    assert (planned.rows, planned.rows_at_once) == (4096, 1024)
    assert isinstance(planned.plan, MulticastPlan)
    assert not planned.plan.fuse_batch


def test_a_chip_sees_its_part_of_the_matrix() -> None:
    spec = ModelSpec.uniform(1024, 4096, 1, 32, 14336, num_kv_heads=8)
    parts = parts_of(hardware("T3K"), spec, 65536)
    assert (parts["wo"], parts["w2"], parts["w1"]) == ((512, 4096), (1792, 4096), (4096, 1792))


def test_sizes_are_padded_to_whole_tiles() -> None:
    planned = OpPlans(hardware()).matmul(W2, PREFILL, 128, 1500, 577)
    assert (planned.inputs, planned.outputs) == (1504, 608)


def test_what_is_typed_wins_and_a_block_that_divides_nothing_is_refused() -> None:
    typed = OpPlans(hardware(), programs={"ff1_ff3_prefill": {"in0_block_w": 6}})
    planned = typed.matmul(W1, PREFILL, 128, 576, 1536)
    assert (planned.plan.in0_block_w, planned.origin) == (6, TYPED)
    assert typed.fixed(W1, PREFILL, planned.plan)
    other = typed.matmul(W1, DECODE, 1, 576, 1536)
    assert other.origin == AS_PLANNED
    assert not typed.fixed(W1, DECODE, other.plan)
    with pytest.raises(ConfigError, match=r"in0_block_w=6 of ff1_ff3 does not divide the 16 tiles.*1, 2, 4, 8 or 16"):
        typed.matmul(W1, PREFILL, 128, 512, 1536)


def test_typed_cores_bring_the_width_that_each_computes() -> None:
    plan = OpPlans(hardware(), programs={"ff1_ff3": {"cores": 6}}).matmul(W1, DECODE, 1, 576, 1536).plan
    assert plan == DramShardedPlan(cores=6, in0_block_w=3, per_core_m=1, per_core_n=8)


def test_a_layer_has_the_plans_of_its_own_configuration() -> None:
    config = hardware(
        compute={"mlp": {"fp32_dest_acc_en": False}},
        layers=[{"select": "1, 3", "compute": {"ff2": {"fp32_dest_acc_en": True}}}],
        num_layers=4,
    )
    subblocks = [OpPlans(config).at_layer(i).matmul(W2, PREFILL, 2048, 4096, 4096).plan for i in range(4)]
    assert [plan.out_subblock_h * plan.out_subblock_w for plan in subblocks] == [8, 4, 8, 4]  # type: ignore[union-attr]
    assert [first_layer(config, i) for i in range(4)] == [0, 1, 0, 1]


def test_what_a_preflight_found_to_fit_replaces_the_first_plan_of_its_layers_only() -> None:
    config = hardware(layers=[{"select": 1, "precision": {"ff2": "BF16"}}], num_layers=2)
    first = OpPlans(config).matmul(W2, DECODE, 1, 4096, 1024).plan
    fits = first.smaller()
    assert fits is not None
    known = OpPlans(config, fitted={(1, "ff2", DECODE, first): fits})
    assert [known.at_layer(i).matmul(W2, DECODE, 1, 4096, 1024).plan for i in range(2)] == [first, fits]
    assert known.at_layer(1).matmul(W2, DECODE, 1, 4096, 1024).origin == FITTED
    typed = dataclasses.replace(known, programs={"ff2": {"in0_block_w": first.in0_block_w}})
    assert typed.at_layer(1).matmul(W2, DECODE, 1, 4096, 1024).plan == first


def test_a_typed_switch_is_typed_and_leaves_the_sizes_to_be_fitted() -> None:
    typed = OpPlans(hardware(), programs={"sdpa_prefill": {"exp_approx_mode": False}})
    plan, origin = typed.attention(PREFILL, 4096)
    assert (plan.q_chunk_size, plan.exp_approx_mode, origin) == (256, False, TYPED)
    assert not typed.fixed(SDPA, PREFILL, plan)
    fits = plan.smaller()
    assert fits is not None
    known = dataclasses.replace(typed, fitted={(None, "sdpa", PREFILL, plan): fits}, layer=None)
    assert known.attention(PREFILL, 4096) == (fits, TYPED_AND_FITTED)
    sized = dataclasses.replace(known, programs={"sdpa": {"q_chunk_size": 256}})
    assert sized.attention(PREFILL, 4096)[1] == TYPED
    assert sized.fixed(SDPA, PREFILL, plan)


def test_smaller_chunks_of_attention_are_whole_tiles() -> None:
    tried = [(plan.q_chunk_size, plan.k_chunk_size) for plan in smaller_plans(plans.SdpaPlan(8, 8, 96, 224))]
    assert tried == [(96, 224), (32, 96), (32, 32)]


def test_fields_that_no_plan_has_are_told() -> None:
    programs = {"ff1_ff3": {"in0_block_w": 1, "out_subblock_h": 1}, "ff2_decode": {"rows": 2}, "ff2": {"cores": 8}}
    decode = OpPlans(hardware()).matmul(W1, DECODE, 1, 576, 1536).plan
    assert unused_programs(programs, [(W1, DECODE, decode), (W2, DECODE, decode)]) == [
        "ff1_ff3.out_subblock_h",
        "ff2_decode.rows",
    ]


def test_plans_survive_being_written() -> None:
    own = OpPlans(hardware())
    for plan in (
        own.matmul(W1, PREFILL, 128, 576, 64).plan,
        own.matmul(W1, DECODE, 1, 576, 64).plan,
        own.attention(PREFILL, 128)[0],
    ):
        assert plans.from_fields(plans.to_fields(plan)) == plan
