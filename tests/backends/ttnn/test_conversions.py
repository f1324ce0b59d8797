# SPDX-License-Identifier: Apache-2.0
"""Configuration to ttnn's objects, with the real ttnn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.backends.ttnn import conversions as to_ttnn
from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.groups import device_types
from tt_transformers_v2.hardware.enums import DataFormat, DispatchCoreType, MathFidelity, Placement
from tt_transformers_v2.hardware.schema import ComputeConfig, DeviceSpec, MemoryConfig
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


def test_formats_are_ttnns_of_that_name(ttnn: Any) -> None:
    names = {data_format.value: to_ttnn.dtype(data_format).name for data_format in DataFormat}
    assert names == {"BFP4": "BFLOAT4_B", "BFP8": "BFLOAT8_B", "BF16": "BFLOAT16"}


@pytest.mark.parametrize("fidelity", MathFidelity)
def test_fidelities_are_ttnns_of_that_name(ttnn: Any, fidelity: MathFidelity) -> None:
    assert to_ttnn.math_fidelity(fidelity).name == fidelity.value


def test_throttle_levels_are_all_that_ttnn_has_in_its_order(ttnn: Any) -> None:
    assert [to_ttnn.throttle(level) for level in range(6)] == list(ttnn.ThrottleLevel.__members__.values())


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
def test_every_compute_config_reaches_ttnn_and_is_the_same_on_both_architectures(
    ttnn: Any, config: ComputeConfig
) -> None:
    kernel = to_ttnn.compute_kernel_config(config)
    same = [getattr(kernel, name) for name in ("fp32_dest_acc_en", "packer_l1_acc", "math_approx_mode")]
    assert same == [config.fp32_dest_acc_en, config.packer_l1_acc, config.math_approx_mode]
    assert kernel.dst_full_sync_en == config.dst_full_sync_en
    assert kernel.math_fidelity.name == config.math_fidelity.value
    assert kernel.throttle_level == to_ttnn.throttle(config.throttle_level)
    settings = {name: getattr(kernel, name) for name in vars(config)}
    for arch in (ttnn.device.Arch.WORMHOLE_B0, ttnn.device.Arch.BLACKHOLE):
        made = ttnn.init_device_compute_kernel_config(arch, **settings)
        assert type(made) is type(kernel)
        assert {name: getattr(made, name) for name in settings} == settings


def test_ttnn_has_no_compute_setting_that_the_configuration_lacks(ttnn: Any) -> None:
    kernel = to_ttnn.compute_kernel_config(ComputeConfig())
    assert {name for name in dir(kernel) if not name.startswith("_")} == set(field_types(ComputeConfig))


# ---- memory ----


@pytest.mark.parametrize("placement", Placement)
def test_every_placement_is_interleaved_there(ttnn: Any, placement: Placement) -> None:
    made = to_ttnn.memory_config(placement)
    assert (made.memory_layout, made.buffer_type.name) == (ttnn.TensorMemoryLayout.INTERLEAVED, placement.value)
    assert not made.is_sharded()


def shards(made: Any) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
    """Where ttnn says that the shards lie, how they are cut, their shape, and the rectangle from the first core on."""
    spec = made.shard_spec
    assert spec.orientation.name == "ROW_MAJOR"
    box, ranges = spec.grid.bounding_box(), spec.grid.ranges()
    assert (box.start.x, box.start.y, len(ranges)) == (0, 0, 1)
    return made.buffer_type.name, made.memory_layout.name, tuple(spec.shape), (box.end.x + 1, box.end.y + 1)


tiles_high_or_wide = st.integers(1, 99).map(lambda tiles: 32 * tiles)


@settings(deadline=None)
@given(
    placement=st.sampled_from(Placement),
    cut=st.sampled_from(["WIDTH", "HEIGHT", "BLOCK"]),
    shape=st.tuples(tiles_high_or_wide, tiles_high_or_wide),
    grid=st.tuples(st.integers(1, 13), st.integers(1, 10)),
)
def test_every_sharding_is_what_was_asked_for(
    ttnn: Any, placement: Placement, cut: str, shape: tuple[int, int], grid: tuple[int, int]
) -> None:
    made = to_ttnn.sharded(placement, cut, shape, grid)
    assert shards(made) == (placement.value, f"{cut}_SHARDED", shape, grid)


@pytest.mark.parametrize(("name", "banks", "tiles"), [(name, *each) for name, each in TILES_OF_A_BANK.items()])
def test_weights_are_spread_over_the_banks_in_whole_tiles(ttnn: Any, name: str, banks: int, tiles: int) -> None:
    made = to_ttnn.weight_memory_config(MemoryConfig(), spec_of(name), *FF1_OF_8B)
    assert shards(made) == ("DRAM", "WIDTH_SHARDED", (4096, 32 * tiles), (banks, 1))


@pytest.mark.parametrize(
    ("memory", "placement"),
    [(MemoryConfig(use_width_sharding=False), Placement.DRAM), (MemoryConfig(weights_placement="L1"), Placement.L1)],
)
def test_other_weights_are_interleaved(ttnn: Any, memory: MemoryConfig, placement: Placement) -> None:
    assert to_ttnn.weight_memory_config(memory, spec_of("N150"), *FF1_OF_8B) == to_ttnn.memory_config(placement)


def test_activations_are_spread_in_whole_tiles(ttnn: Any) -> None:
    by_width = shards(to_ttnn.width_sharded(32, 4096, 32, (8, 8)))
    assert by_width == ("L1", "WIDTH_SHARDED", (32, 128), (8, 4))
    ragged = shards(to_ttnn.width_sharded(33, 576, 5, (8, 8)))  # 18 tiles on 5 cores: 4 on each
    assert ragged == ("L1", "WIDTH_SHARDED", (64, 128), (5, 1))
    by_height = shards(to_ttnn.height_sharded(1024, 100, 16, (8, 8)))
    assert by_height == ("L1", "HEIGHT_SHARDED", (64, 128), (8, 2))
    with pytest.raises(ConfigError, match="do not form a rectangle"):
        to_ttnn.width_sharded(32, 4096, 11, (8, 8))


# ---- programs ----


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
    assert (attention.exp_approx_mode, attention.max_cores_per_head_batch) == (True, 16)
    exact = to_ttnn.program_config(SdpaPlan(8, 4, 256, 128, exp_approx_mode=False, max_cores_per_head_batch=4))
    assert (exact.exp_approx_mode, exact.max_cores_per_head_batch) == (False, 4)


# ---- systems ----


@pytest.mark.parametrize("name", sorted(device_types()))
def test_every_systems_mesh_has_its_rows_and_columns(ttnn: Any, name: str) -> None:
    spec = spec_of(name)
    assert list(to_ttnn.mesh_shape(spec.mesh_shape)) == spec.mesh_shape


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
