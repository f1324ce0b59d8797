# SPDX-License-Identifier: Apache-2.0
"""Program configurations as plain values: what holds for every shape and grid, and what a user may type."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tt_transformers_v2.backends.ttnn.recording.asking import near_plans
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.common.units import TILE
from tt_transformers_v2.planning import plans
from tt_transformers_v2.planning.plans import DramShardedPlan, MulticastPlan, SdpaPlan
from tt_transformers_v2.planning.typed_programs import PROGRAMS, check_blocks, check_programs, fixes_sizes, typed_fields

widths = st.integers(1, 512).map(lambda tiles: tiles * TILE)  # elements
grids = st.tuples(st.integers(1, 13), st.integers(1, 10))  # columns, rows
users = st.integers(1, 32)
tokens = st.integers(1, 64).map(lambda tiles: tiles * TILE)


@given(widths, widths, users, grids)
def test_a_decode_matmul_covers_its_widths_in_whole_blocks(
    inputs: int, outputs: int, rows: int, grid: tuple[int, int]
) -> None:
    plan = plans.decode_matmul(inputs, outputs, rows=rows, grid=grid)
    held = inputs // TILE // plan.cores
    assert plan.cores * held == inputs // TILE
    assert held % plan.in0_block_w == 0
    assert plan.cores * plan.per_core_n >= outputs // TILE
    assert plan.per_core_m == 1
    for tried in plans.smaller_plans(plan):
        check_blocks("qkv", tried, inputs)


@given(widths, widths, tokens, grids, st.booleans())
def test_a_prefill_matmul_covers_its_output_with_subblocks_that_dst_holds(
    inputs: int, outputs: int, rows: int, grid: tuple[int, int], fp32: bool
) -> None:
    plan = plans.prefill_matmul(inputs, outputs, rows=rows, grid=grid, fp32_dest_acc_en=fp32)
    assert (inputs // TILE) % plan.in0_block_w == 0
    assert plan.out_subblock_h * plan.out_subblock_w <= (4 if fp32 else 8)
    assert (plan.columns, plan.rows) <= (grid[0], grid[1])
    assert plan.rows <= grid[1]
    assert plan.rows * plan.per_core_m >= rows // TILE
    assert plan.columns * plan.per_core_n >= outputs // TILE
    for tried in plans.smaller_plans(plan):
        assert tried.per_core_m % tried.out_subblock_h == tried.per_core_n % tried.out_subblock_w == 0


@given(widths, widths, tokens, grids, st.booleans())
def test_smaller_plans_shrink_and_end(inputs: int, outputs: int, rows: int, grid: tuple[int, int], fp32: bool) -> None:
    for first in (
        plans.decode_matmul(inputs, outputs, rows=1, grid=grid),
        plans.prefill_matmul(inputs, outputs, rows=rows, grid=grid, fp32_dest_acc_en=fp32),
        plans.prefill_attention(rows, grid),
        plans.decode_attention(grid),
    ):
        tried = list(plans.smaller_plans(first))
        assert tried[0] == first
        sizes = [size(plan) for plan in tried]
        assert all(smaller < larger for larger, smaller in pairwise(sizes))
        assert tried[-1].smaller() is None


def size(plan: plans.Plan) -> int:
    """What a smaller plan has less of: tiles of a block of the inputs and of a subblock, or tokens of a chunk."""
    if isinstance(plan, SdpaPlan):
        return plan.q_chunk_size + plan.k_chunk_size
    subblock = plan.out_subblock_h * plan.out_subblock_w if isinstance(plan, MulticastPlan) else 1
    return plan.in0_block_w * 100 + subblock


@given(st.integers(1, 512), grids)
def test_storage_cores_are_a_rectangle_within_the_grid_that_divides_the_tiles(
    tiles: int, grid: tuple[int, int]
) -> None:
    cores = plans.storage_cores(tiles, grid)
    columns, rows = plans.core_rectangle(cores, grid)
    assert tiles % cores == 0
    assert columns * rows == cores <= 32
    assert columns <= grid[0]
    assert rows <= grid[1]


def test_cores_that_make_no_rectangle_are_refused() -> None:
    assert plans.rectangle(13, (8, 8)) is None
    with pytest.raises(ConfigError, match="13 cores do not form a rectangle within 8 x 8"):
        plans.core_rectangle(13, (8, 8))


@given(st.integers(1, 4096).map(lambda tiles: tiles * TILE), st.integers(1, 64).map(lambda tiles: tiles * TILE))
def test_a_long_prompt_is_multiplied_in_equal_parts_within_the_limit(rows: int, limit: int) -> None:
    at_once = plans.rows_at_once(rows, limit)
    assert rows % at_once == at_once % TILE == 0
    assert at_once <= max(limit, TILE)


def test_widths_that_are_no_whole_tiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="whole tiles of 32"):
        plans.decode_matmul(100, 64, rows=1, grid=(8, 8))


@given(widths, widths, tokens)
def test_plans_near_a_users_are_others_and_differ_in_little(inputs: int, outputs: int, rows: int) -> None:
    typed = plans.prefill_matmul(inputs, outputs, rows=rows, grid=(8, 8), fp32_dest_acc_en=False)
    near = list(near_plans(typed))
    assert typed not in near
    for plan in near:
        assert isinstance(plan, MulticastPlan)
        assert (plan.per_core_m, plan.per_core_n) == (typed.per_core_m, typed.per_core_n)
        assert 1 <= plan.in0_block_w <= typed.in0_block_w
        assert plan.out_subblock_h * plan.out_subblock_w <= typed.out_subblock_h * typed.out_subblock_w


def test_attention_near_a_users_has_another_chunk_of_one_kind_first() -> None:
    near = [(plan.q_chunk_size, plan.k_chunk_size) for plan in near_plans(plans.SdpaPlan(8, 8, 64, 256))]
    assert near == [(64, 128), (64, 64), (64, 32), (32, 256), (32, 128), (32, 64), (32, 32)]
    assert [plan.k_chunk_size for plan in near_plans(plans.SdpaPlan(8, 8, 32, 0))] == []


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"ff1": {"in0_block_w": 4}}, "Did you mean ff2"),
        ({"ff1_ff3": {"in0_blockw": 4}}, "Did you mean in0_block_w"),
        ({"ff1_ff3": 4}, "section, not a value"),
        ({"ff1_ff3": {"in0_block_w": 0}}, "at least 1"),
        ({"ff1_ff3": {"in0_block_w": True}}, "whole number"),
        ({"qkv_decode": {"fuse_batch": 2}}, "no 'fuse_batch'"),
        ({"lm_head": {"fuse_batch": 1}}, "no 'fuse_batch'"),
        ({"ff2": {"exp_approx_mode": True}}, "no 'exp_approx_mode'"),
        ({"sdpa": {"exp_approx_mode": 0}}, "must be true or false, not 0"),
        ({"sdpa": {"exp_approx_mode": "no"}}, "must be true or false, not 'no'"),
        ({"sdpa": {"k_chunk_size": "64"}}, "whole number of at least 0, not '64'"),
    ],
)
def test_programs_that_no_op_has_are_refused(programs: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_programs(programs)


def test_every_group_takes_the_fields_of_its_plans() -> None:
    check_programs({group: {} for group in PROGRAMS})
    check_programs(
        {"sdpa": {"q_chunk_size": 0, "columns": 8}, "o": {"in0_block_w": 2, "out_subblock_h": 1, "cores": 8}}
    )


def test_a_switch_leaves_the_sizes_to_auto_fit() -> None:
    programs = {"sdpa": {"exp_approx_mode": False}, "sdpa_decode": {"k_chunk_size": 64}}
    check_programs(programs)
    plan = plans.decode_attention((8, 8))
    assert typed_fields(programs, "sdpa", "prefill", plan) == {"exp_approx_mode": False}
    assert not fixes_sizes(typed_fields(programs, "sdpa", "prefill", plan))
    assert fixes_sizes(typed_fields(programs, "sdpa", "decode", plan))
    assert not fixes_sizes({})


def test_what_is_typed_for_a_phase_wins_and_what_the_plan_has_not_is_the_other_phases() -> None:
    programs = {"qkv": {"in0_block_w": 2, "out_subblock_w": 4}, "qkv_decode": {"in0_block_w": 1}}
    decode = DramShardedPlan(cores=8, in0_block_w=4, per_core_m=1, per_core_n=2)
    prefill = plans.prefill_matmul(1024, 1024, rows=128, grid=(8, 8), fp32_dest_acc_en=True)
    assert typed_fields(programs, "qkv", "decode", decode) == {"in0_block_w": 1}
    assert typed_fields(programs, "qkv", "prefill", prefill) == {"in0_block_w": 2, "out_subblock_w": 4}
    assert typed_fields(programs, "ff2", "decode", decode) == {}


def test_blocks_that_a_core_does_not_hold_whole_are_refused() -> None:
    plan = DramShardedPlan(cores=32, in0_block_w=8, per_core_m=1, per_core_n=2)
    with pytest.raises(ConfigError, match="each of 32 cores holds 4 tiles"):
        check_blocks("qkv", plan, 4096)
    with pytest.raises(ConfigError, match="32 cores cannot share the 48 tiles"):
        check_blocks("ff2", plan, 1536)
