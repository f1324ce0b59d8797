# SPDX-License-Identifier: Apache-2.0
"""Configuration to ttnn's objects and back, with the real ttnn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.backends.ttnn import conversions as to_ttnn
from tt_transformers_v2.backends.ttnn.conversions import Shards
from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.hardware.enums import DataFormat, DispatchCoreType, MathFidelity, Placement
from tt_transformers_v2.hardware.schema import ComputeConfig, DeviceSpec, MemoryConfig
from tt_transformers_v2.planning import plans
from tt_transformers_v2.planning.plans import DramShardedPlan, MulticastPlan, SdpaPlan

FF1_OF_8B = (4096, 14336)
TILES = 128, 448  # of that matrix
# A system for each number of DRAM banks: tiles of the matrix's width on one of 12, 8 and 7 banks, by hand.
TILES_OF_A_BANK = {"N150": (12, 38), "P150": (8, 56), "P100": (7, 64)}
TILE_BYTES = {"BFP4": 576, "BFP8": 1088, "BF16": 2048}


@pytest.fixture(scope="module")
def ttnn() -> Any:
    return pytest.importorskip("ttnn", reason="ttnn is not installed")


def spec_of(name: str) -> DeviceSpec:
    return DevicePresets.get_config(name).spec


# ---- formats and compute kernels ----


@pytest.mark.parametrize("data_format", DataFormat)
def test_every_format_comes_back(ttnn: Any, data_format: DataFormat) -> None:
    assert to_ttnn.data_format(to_ttnn.dtype(data_format)) is data_format


def test_formats_are_ttnns_of_that_name(ttnn: Any) -> None:
    names = {data_format.value: to_ttnn.dtype(data_format).name for data_format in DataFormat}
    assert names == {"BFP4": "BFLOAT4_B", "BFP8": "BFLOAT8_B", "BF16": "BFLOAT16"}


@pytest.mark.parametrize("name", ["uint32", "float32", "int32"])
def test_a_dtype_no_configuration_has_is_refused(ttnn: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no format for DataType.{name.upper()}\. Formats: BFP4, BFP8, BF16\."):
        to_ttnn.data_format(getattr(ttnn, name))


@pytest.mark.parametrize("fidelity", MathFidelity)
def test_every_fidelity_comes_back(ttnn: Any, fidelity: MathFidelity) -> None:
    assert to_ttnn.math_fidelity(fidelity).name == fidelity.value
    assert to_ttnn.fidelity(to_ttnn.math_fidelity(fidelity)) is fidelity


def test_ttnns_invalid_fidelity_is_refused(ttnn: Any) -> None:
    with pytest.raises(ConfigError, match="'Invalid' is not a MathFidelity"):
        to_ttnn.fidelity(ttnn.MathFidelity.Invalid)


def test_every_throttle_level_of_ttnn_comes_back(ttnn: Any) -> None:
    levels = [to_ttnn.throttle(level) for level in range(6)]
    assert {level.name for level in levels} == set(ttnn.ThrottleLevel.__members__)
    assert [to_ttnn.throttle_level(level) for level in levels] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("level", [-1, 6])
def test_a_throttle_level_ttnn_lacks_is_refused(ttnn: Any, level: int) -> None:
    with pytest.raises(ConfigError, match=f"no throttle level {level}"):
        to_ttnn.throttle(level)


compute_configs = st.builds(
    ComputeConfig,
    **{
        name: {int: st.integers(0, 5), bool: st.booleans(), MathFidelity: st.sampled_from(MathFidelity)}[kind]
        for name, kind in field_types(ComputeConfig).items()
    },
)


@settings(deadline=None)
@given(config=compute_configs)
def test_every_compute_config_comes_back_and_is_the_same_on_both_architectures(
    ttnn: Any, config: ComputeConfig
) -> None:
    kernel = to_ttnn.compute_kernel_config(config)
    assert to_ttnn.compute_config(kernel) == config
    for arch in (ttnn.device.Arch.WORMHOLE_B0, ttnn.device.Arch.BLACKHOLE):
        made = ttnn.init_device_compute_kernel_config(arch, **{name: getattr(kernel, name) for name in vars(config)})
        assert type(made) is type(kernel)
        assert to_ttnn.compute_config(made) == config


def test_ttnn_has_no_compute_setting_that_the_configuration_lacks(ttnn: Any) -> None:
    kernel = to_ttnn.compute_kernel_config(ComputeConfig())
    assert {name for name in dir(kernel) if not name.startswith("_")} == set(field_types(ComputeConfig))


# ---- memory ----


@pytest.mark.parametrize("placement", Placement)
def test_every_placement_comes_back(ttnn: Any, placement: Placement) -> None:
    made = to_ttnn.memory_config(placement)
    assert (made.memory_layout, made.buffer_type.name) == (ttnn.TensorMemoryLayout.INTERLEAVED, placement.value)
    assert to_ttnn.placement(made) is placement
    assert to_ttnn.shards(made) is None


shards = st.builds(
    Shards,
    placement=st.sampled_from(Placement),
    cut=st.sampled_from(["WIDTH", "HEIGHT", "BLOCK"]),
    shape=st.tuples(st.integers(1, 99).map(lambda tiles: 32 * tiles), st.integers(1, 99).map(lambda tiles: 32 * tiles)),
    grid=st.tuples(st.integers(1, 13), st.integers(1, 10)),
)


@settings(deadline=None)
@given(described=shards)
def test_every_sharding_comes_back(ttnn: Any, described: Shards) -> None:
    made = to_ttnn.sharded(described)
    assert to_ttnn.shards(made) == described
    assert to_ttnn.placement(made) is described.placement


def test_shardings_that_have_no_description_are_refused(ttnn: Any) -> None:
    def rectangle(*corners: int) -> Any:
        return ttnn.CoreRange(ttnn.CoreCoord(*corners[:2]), ttnn.CoreCoord(*corners[2:]))

    def config(*ranges: Any, orientation: Any = ttnn.ShardOrientation.ROW_MAJOR) -> Any:
        spec = ttnn.ShardSpec(ttnn.CoreRangeSet(set(ranges)), (32, 64), orientation)
        return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.HEIGHT_SHARDED, ttnn.BufferType.L1, spec)

    described = config(rectangle(0, 0, 7, 3))
    assert to_ttnn.shards(described) == Shards(Placement.L1, "HEIGHT", (32, 64), (8, 4))
    for other in (
        config(rectangle(1, 0, 7, 3)),
        config(rectangle(0, 0, 7, 3), rectangle(0, 4, 1, 4)),
        config(rectangle(0, 0, 7, 3), orientation=ttnn.ShardOrientation.COL_MAJOR),
        ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG,  # the op that is given this chooses the shards
    ):
        with pytest.raises(ConfigError, match="cannot describe MemoryConfig"):
            to_ttnn.shards(other)
    with pytest.raises(ConfigError, match="'L1_SMALL' is not a Placement"):
        to_ttnn.placement(ttnn.MemoryConfig(ttnn.TensorMemoryLayout.INTERLEAVED, ttnn.BufferType.L1_SMALL))


@pytest.mark.parametrize(("name", "banks", "tiles"), [(name, *each) for name, each in TILES_OF_A_BANK.items()])
def test_weights_are_spread_over_the_banks_in_whole_tiles(ttnn: Any, name: str, banks: int, tiles: int) -> None:
    made = to_ttnn.weight_memory_config(MemoryConfig(), spec_of(name), *FF1_OF_8B)
    assert to_ttnn.shards(made) == Shards(Placement.DRAM, "WIDTH", (4096, 32 * tiles), (banks, 1))


@pytest.mark.parametrize(
    ("memory", "placement"),
    [(MemoryConfig(use_width_sharding=False), Placement.DRAM), (MemoryConfig(weights_placement="L1"), Placement.L1)],
)
def test_other_weights_are_interleaved(ttnn: Any, memory: MemoryConfig, placement: Placement) -> None:
    assert to_ttnn.weight_memory_config(memory, spec_of("N150"), *FF1_OF_8B) == to_ttnn.memory_config(placement)


def test_activations_are_spread_in_whole_tiles(ttnn: Any) -> None:
    by_width = to_ttnn.shards(to_ttnn.width_sharded(32, 4096, 32, (8, 8)))
    assert by_width == Shards(Placement.L1, "WIDTH", (32, 128), (8, 4))
    ragged = to_ttnn.shards(to_ttnn.width_sharded(33, 576, 5, (8, 8)))  # 18 tiles on 5 cores: 4 on each
    assert ragged == Shards(Placement.L1, "WIDTH", (64, 128), (5, 1))
    by_height = to_ttnn.shards(to_ttnn.height_sharded(1024, 100, 16, (8, 8)))
    assert by_height == Shards(Placement.L1, "HEIGHT", (64, 128), (8, 2))
    with pytest.raises(ConfigError, match="do not form a rectangle"):
        to_ttnn.width_sharded(32, 4096, 11, (8, 8))


# ---- programs ----

sizes = st.integers(1, 200)
any_plan = st.one_of(
    st.builds(DramShardedPlan, sizes, sizes, sizes, sizes, st.integers(1, 4)),
    st.builds(MulticastPlan, sizes, sizes, sizes, sizes, sizes, sizes, sizes, st.booleans()),
    st.builds(SdpaPlan, sizes, sizes, st.integers(0, 512), st.integers(0, 512)),
)


@settings(deadline=None)
@given(plan=any_plan)
def test_every_plan_comes_back(ttnn: Any, plan: plans.Plan) -> None:
    cores = plan.cores if isinstance(plan, DramShardedPlan) else 1
    assert to_ttnn.plan_of(to_ttnn.program_config(plan), cores=cores) == plan


def test_programs_have_a_plans_numbers_where_ttnn_wants_them(ttnn: Any) -> None:
    decode = to_ttnn.program_config(DramShardedPlan(32, in0_block_w=4, per_core_m=1, per_core_n=14, readers_per_bank=2))
    assert json.loads(decode.to_json()) == {
        "in0_block_w": 4,
        "per_core_M": 1,
        "per_core_N": 14,
        "num_workers_per_dram_bank": 2,
        "fused_activation": None,
    }
    prefill = to_ttnn.program_config(MulticastPlan(8, 4, 2, 1, 7, 3, 56, False))
    told = json.loads(prefill.to_json())
    assert told["compute_with_storage_grid_size"] == {"x": 8, "y": 4}
    assert (told["in0_block_w"], told["out_subblock_h"], told["out_subblock_w"]) == (2, 1, 7)
    assert (told["per_core_M"], told["per_core_N"], told["fuse_batch"], told["transpose_mcast"]) == (
        3,
        56,
        False,
        False,
    )
    attention = to_ttnn.program_config(SdpaPlan(8, 4, 256, 128))
    assert str(attention.compute_with_storage_grid_size) == "8-4"
    assert (attention.q_chunk_size, attention.k_chunk_size) == (256, 128)


def test_programs_that_no_plan_describes_are_refused(ttnn: Any) -> None:
    grid = ttnn.CoreCoord(8, 4)
    approximate = ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=grid, q_chunk_size=64, k_chunk_size=64, exp_approx_mode=True
    )
    with pytest.raises(ConfigError, match="no plan has all the settings of SDPAProgramConfig"):
        to_ttnn.plan_of(approximate)
    with pytest.raises(ConfigError, match="no plan for a MatmulMultiCoreReuseProgramConfig"):
        to_ttnn.plan_of(
            ttnn.MatmulMultiCoreReuseProgramConfig(
                compute_with_storage_grid_size=grid,
                in0_block_w=1,
                out_subblock_h=1,
                out_subblock_w=1,
                per_core_M=1,
                per_core_N=1,
            )
        )


# ---- systems ----


@pytest.mark.parametrize("name", sorted(device_types()))
def test_every_systems_mesh_and_topology_come_back(ttnn: Any, name: str) -> None:
    spec = spec_of(name)
    assert to_ttnn.rows_and_columns(to_ttnn.mesh_shape(spec.mesh_shape)) == spec.mesh_shape
    assert to_ttnn.topology(to_ttnn.fabric_config(spec)) == spec.topology


@pytest.mark.parametrize(
    ("name", "fabric"),
    [
        ("N150", None),
        ("N300", "FABRIC_1D"),
        ("T3K", "FABRIC_1D_RING"),
        ("TG", "FABRIC_2D"),
        ("P150x4", "FABRIC_1D_RING"),
    ],
)
def test_the_fabric_follows_the_topology(ttnn: Any, name: str, fabric: str | None) -> None:
    made = to_ttnn.fabric_config(spec_of(name))
    assert (made and made.name) == fabric


def test_a_fabric_no_system_has_is_refused(ttnn: Any) -> None:
    with pytest.raises(ConfigError, match=r"no topology for FabricConfig\.CUSTOM"):
        to_ttnn.topology(ttnn.FabricConfig.CUSTOM)


@pytest.mark.parametrize("name", TILES_OF_A_BANK)
def test_a_system_opens_with_what_it_was_asked_for(name: str, run: Callable[..., dict[str, Any]]) -> None:
    banks, tiles = TILES_OF_A_BANK[name]
    there = run("ttnn_conversion_jobs:opened", name, matrix=FF1_OF_8B, l1_small_size=32768)
    assert there["l1_small"] == 32768
    assert 0 <= there["trace"] - spec_of(name).trace_region_size < banks * 4096  # rounded up on each bank
    assert there["dispatch"] == {kind.value: kind.value for kind in DispatchCoreType}
    assert (there["banks"], there["mesh_shape"]) == (banks, [1, 1])
    # Bytes of one bank: what the padded shard takes, to the byte, and what the fullest bank has without sharding.
    rows, columns = TILES
    for data_format, tile in TILE_BYTES.items():
        assert there["taken"][f"{data_format} sharded"] == rows * tiles * tile
        assert there["taken"][f"{data_format} interleaved"] == math.ceil(rows * columns / banks) * tile
