# SPDX-License-Identifier: Apache-2.0
"""From this project's configuration to ttnn's objects, one small function each.

ttnn is imported when a function runs. It has no type stubs, so its objects are Any here.
"""

from __future__ import annotations

import math
from typing import Any

from ...common.errors import ConfigError
from ...common.units import TILE
from ...hardware.enums import DataFormat, DispatchCoreType, MathFidelity, Placement, Topology
from ...hardware.schema import ComputeConfig, DeviceConfig, DeviceSpec, MemoryConfig
from ...planning.plans import DramShardedPlan, Multicast1DPlan, MulticastPlan, Plan, SdpaPlan, core_rectangle

THROTTLE_LEVELS = ("NO_THROTTLE", "LEVEL_1", "LEVEL_2", "LEVEL_3", "LEVEL_4", "LEVEL_5")  # ttnn.ThrottleLevel
# ttnn.FabricConfig
FABRICS = {Topology.line: "FABRIC_1D", Topology.ring: "FABRIC_1D_RING", Topology.mesh: "FABRIC_2D"}

# Formats


def dtype(data_format: DataFormat) -> Any:
    """ttnn.bfloat4_b, ttnn.bfloat8_b or ttnn.bfloat16."""
    import ttnn

    return getattr(ttnn, data_format.ttnn_name)


# Compute kernels


def math_fidelity(fidelity: MathFidelity) -> Any:
    """ttnn.MathFidelity of the same name."""
    import ttnn

    return getattr(ttnn.MathFidelity, fidelity.value)


def throttle(level: int) -> Any:
    """ttnn.ThrottleLevel of a level from 0 (none) to 5. Raises ConfigError for any other."""
    import ttnn

    if not 0 <= level < len(THROTTLE_LEVELS):
        raise ConfigError(f"ttnn has no throttle level {level}.", "Levels are 0 to 5.")
    return getattr(ttnn.ThrottleLevel, THROTTLE_LEVELS[level])


def compute_kernel_config(config: ComputeConfig) -> Any:
    """ttnn.WormholeComputeKernelConfig with all six fields; ttnn has the same class for Blackhole."""
    import ttnn

    return ttnn.WormholeComputeKernelConfig(
        math_fidelity=math_fidelity(config.math_fidelity),
        math_approx_mode=config.math_approx_mode,
        fp32_dest_acc_en=config.fp32_dest_acc_en,
        packer_l1_acc=config.packer_l1_acc,
        dst_full_sync_en=config.dst_full_sync_en,
        throttle_level=throttle(config.throttle_level),
    )


# Memory


def memory_config(placement: Placement) -> Any:
    """Interleaved over the DRAM banks or over the cores' L1."""
    import ttnn

    return ttnn.DRAM_MEMORY_CONFIG if placement is Placement.DRAM else ttnn.L1_MEMORY_CONFIG


def sharded(placement: Placement, cut: str, shape: tuple[int, int], grid: tuple[int, int]) -> Any:
    """ttnn.MemoryConfig of a tensor cut into shards over a rectangle of cores, or of DRAM banks in one row.

    `cut` is the dimension that is cut: WIDTH, HEIGHT, or BLOCK for both. `shape` is (rows, columns) of a shard in
    elements, `grid` (columns, rows) of the rectangle, which begins at the first core or bank and is filled row by row.
    """
    import ttnn

    columns, rows = grid
    cores = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(columns - 1, rows - 1))})
    return ttnn.MemoryConfig(
        getattr(ttnn.TensorMemoryLayout, f"{cut}_SHARDED"),
        getattr(ttnn.BufferType, placement.value),
        ttnn.ShardSpec(cores, shape, ttnn.ShardOrientation.ROW_MAJOR),
    )


def weight_memory_config(
    memory: MemoryConfig, spec: DeviceSpec, inputs: int, outputs: int, *, interleaved: bool = False
) -> Any:
    """Where a matrix [inputs, outputs] (elements) of a decode matmul lies on one chip.

    In DRAM with use_width_sharding, its columns are spread over the banks, padded to as many tiles on each; otherwise,
    and where its op is always `interleaved`, it is interleaved.
    """
    if interleaved or memory.weights_placement is not Placement.DRAM or not memory.use_width_sharding:
        return memory_config(memory.weights_placement)
    banks = spec.chip.dram_banks
    return sharded(Placement.DRAM, "WIDTH", (_in_tiles(inputs), _in_tiles(outputs, banks)), (banks, 1))


def width_sharded(rows: int, width: int, cores: int, grid: tuple[int, int]) -> Any:
    """Activations [rows, width] (elements) in L1, their width spread over `cores` in a rectangle within `grid`."""
    return sharded(Placement.L1, "WIDTH", (_in_tiles(rows), _in_tiles(width, cores)), core_rectangle(cores, grid))


def height_sharded(rows: int, width: int, cores: int, grid: tuple[int, int]) -> Any:
    """The same with the rows spread over the cores."""
    return sharded(Placement.L1, "HEIGHT", (_in_tiles(rows, cores), _in_tiles(width)), core_rectangle(cores, grid))


# Programs


def program_config(plan: Plan) -> Any:
    """ttnn's program configuration of a plan."""
    if isinstance(plan, DramShardedPlan):
        return _dram_sharded_program(plan)
    if isinstance(plan, Multicast1DPlan):
        return _multicast_1d_program(plan)
    return _multicast_program(plan) if isinstance(plan, MulticastPlan) else _sdpa_program(plan)


# How norms add up: as ttnn does by itself, by the matrix unit and not by Welford's method.
NORM_SUMS = {"legacy_reduction": False, "use_welford": False}


def row_norm_program() -> Any:
    """ttnn's program configuration of a norm whose rows lie interleaved: each core takes whole rows."""
    import ttnn

    return ttnn.LayerNormDefaultProgramConfig(**NORM_SUMS)


def _dram_sharded_program(plan: DramShardedPlan) -> Any:
    import ttnn

    # Older releases know one reader per bank only and have no such argument.
    readers = {} if plan.readers_per_bank == 1 else {"num_workers_per_dram_bank": plan.readers_per_bank}
    return ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(
        in0_block_w=plan.in0_block_w,
        per_core_M=plan.per_core_m,
        per_core_N=plan.per_core_n,
        fused_activation=None,
        **readers,
    )


def _multicast_program(plan: MulticastPlan) -> Any:
    import ttnn

    return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        **_of_both_multicasts(plan), transpose_mcast=False, fuse_batch=plan.fuse_batch
    )


def _multicast_1d_program(plan: Multicast1DPlan) -> Any:
    import ttnn

    return ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        **_of_both_multicasts(plan), fuse_batch=True, mcast_in0=True
    )


def _of_both_multicasts(plan: MulticastPlan | Multicast1DPlan) -> dict[str, Any]:
    import ttnn

    return {
        "compute_with_storage_grid_size": ttnn.CoreCoord(plan.columns, plan.rows),
        "in0_block_w": plan.in0_block_w,
        "out_subblock_h": plan.out_subblock_h,
        "out_subblock_w": plan.out_subblock_w,
        "per_core_M": plan.per_core_m,
        "per_core_N": plan.per_core_n,
        "fused_activation": None,
    }


def _sdpa_program(plan: SdpaPlan) -> Any:
    import ttnn

    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(plan.columns, plan.rows),
        q_chunk_size=plan.q_chunk_size,
        k_chunk_size=plan.k_chunk_size,
        exp_approx_mode=plan.exp_approx_mode,
        max_cores_per_head_batch=plan.max_cores_per_head_batch,
    )


# Systems


def mesh_shape(rows_and_columns: list[int]) -> Any:
    """ttnn.MeshShape of DeviceSpec.mesh_shape."""
    import ttnn

    return ttnn.MeshShape(*rows_and_columns)


def dispatch_core_config(kind: DispatchCoreType) -> Any:
    """ttnn.DispatchCoreConfig of a kind of core. ttnn looks at the system for it: a card or a described one."""
    import ttnn

    return ttnn.DispatchCoreConfig(getattr(ttnn.DispatchCoreType, kind.value))


def fabric_config(spec: DeviceSpec) -> Any | None:
    """The member of ttnn.FabricConfig for a system's topology, or None for a single chip.

    Raises ConfigError where several chips are cabled in no way.
    """
    import ttnn

    if spec.chips == 1:
        return None
    if spec.topology is Topology.none:
        raise ConfigError(f"device.topology is none for {spec.chips} chips.", f"Choose {', '.join(FABRICS)}.")
    return getattr(ttnn.FabricConfig, FABRICS[spec.topology])


def open_arguments(config: DeviceConfig | DeviceSpec, l1_small_size: int = 0) -> dict[str, Any]:
    """What ttnn.open_mesh_device takes, by keyword. `l1_small_size` and the trace region are in bytes, the first per
    core, the second per chip.
    """
    spec = config.spec if isinstance(config, DeviceConfig) else config
    return {
        "mesh_shape": mesh_shape(spec.mesh_shape),
        "l1_small_size": l1_small_size,
        "trace_region_size": config.trace_region_size,
        "dispatch_core_config": dispatch_core_config(spec.dispatch_core_type),
    }


def _in_tiles(elements: int, parts: int = 1) -> int:
    """The elements of one of so many equal parts that are whole tiles and hold all."""
    return math.ceil(elements / (TILE * parts)) * TILE
