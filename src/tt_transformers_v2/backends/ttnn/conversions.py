# SPDX-License-Identifier: Apache-2.0
"""From this project's configuration to ttnn's objects, one small function each, and back where there is a way back.

ttnn is imported when a function runs. It has no type stubs, so its objects are Any here. Ways back raise ConfigError
for what no configuration of this project says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...common.checked import enum_member
from ...common.errors import ConfigError
from ...hardware.enums import DataFormat, DispatchCoreType, MathFidelity, Placement, Topology
from ...hardware.schema import ComputeConfig, DeviceConfig, DeviceSpec, MemoryConfig
from ...planning.plans import TILE, DramShardedPlan, MulticastPlan, Plan, SdpaPlan, core_rectangle

THROTTLE_LEVELS = ("NO_THROTTLE", "LEVEL_1", "LEVEL_2", "LEVEL_3", "LEVEL_4", "LEVEL_5")  # ttnn.ThrottleLevel
# ttnn.FabricConfig
FABRICS = {Topology.line: "FABRIC_1D", Topology.ring: "FABRIC_1D_RING", Topology.mesh: "FABRIC_2D"}

# Formats


def dtype(data_format: DataFormat) -> Any:
    """ttnn.bfloat4_b, ttnn.bfloat8_b or ttnn.bfloat16."""
    import ttnn

    return getattr(ttnn, data_format.ttnn_name)


def data_format(dtype: Any) -> DataFormat:
    """The inverse of `dtype`."""
    import ttnn

    for known in DataFormat:
        if getattr(ttnn, known.ttnn_name) == dtype:
            return known
    raise ConfigError(f"no format for {dtype}.", f"Formats: {', '.join(f.value for f in DataFormat)}.")


# Compute kernels


def math_fidelity(fidelity: MathFidelity) -> Any:
    """ttnn.MathFidelity of the same name."""
    import ttnn

    return getattr(ttnn.MathFidelity, fidelity.value)


def fidelity(math_fidelity: Any) -> MathFidelity:
    """The inverse of `math_fidelity`."""
    return enum_member(MathFidelity, math_fidelity.name, "math_fidelity")


def throttle(level: int) -> Any:
    """ttnn.ThrottleLevel of a level from 0 (none) to 5. Raises ConfigError for any other."""
    import ttnn

    if not 0 <= level < len(THROTTLE_LEVELS):
        raise ConfigError(f"ttnn has no throttle level {level}.", "Levels are 0 to 5.")
    return getattr(ttnn.ThrottleLevel, THROTTLE_LEVELS[level])


def throttle_level(throttle: Any) -> int:
    """The inverse of `throttle`."""
    return THROTTLE_LEVELS.index(throttle.name)


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


def compute_config(kernel: Any) -> ComputeConfig:
    """The inverse of `compute_kernel_config`."""
    return ComputeConfig(
        math_fidelity=fidelity(kernel.math_fidelity),
        math_approx_mode=kernel.math_approx_mode,
        fp32_dest_acc_en=kernel.fp32_dest_acc_en,
        packer_l1_acc=kernel.packer_l1_acc,
        dst_full_sync_en=kernel.dst_full_sync_en,
        throttle_level=throttle_level(kernel.throttle_level),
    )


# Memory


@dataclass(frozen=True)
class Shards:
    """A tensor cut into shards over a rectangle of cores, or of DRAM banks in one row.

    `cut` is the dimension that is cut: WIDTH, HEIGHT, or BLOCK for both. `shape` is (rows, columns) of a shard in
    elements, `grid` (columns, rows) of the rectangle, which begins at the first core or bank.
    """

    placement: Placement
    cut: str
    shape: tuple[int, int]
    grid: tuple[int, int]


def memory_config(placement: Placement) -> Any:
    """Interleaved over the DRAM banks or over the cores' L1."""
    import ttnn

    return ttnn.DRAM_MEMORY_CONFIG if placement is Placement.DRAM else ttnn.L1_MEMORY_CONFIG


def placement(memory_config: Any) -> Placement:
    """The inverse of `memory_config`, for sharded ones too."""
    return enum_member(Placement, memory_config.buffer_type.name, "buffer_type")


def sharded(shards: Shards) -> Any:
    """ttnn.MemoryConfig of a tensor that is cut into shards, row by row over the rectangle."""
    import ttnn

    columns, rows = shards.grid
    grid = ttnn.CoreRangeSet({ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(columns - 1, rows - 1))})
    return ttnn.MemoryConfig(
        getattr(ttnn.TensorMemoryLayout, f"{shards.cut}_SHARDED"),
        getattr(ttnn.BufferType, shards.placement.value),
        ttnn.ShardSpec(grid, shards.shape, ttnn.ShardOrientation.ROW_MAJOR),
    )


def shards(memory_config: Any) -> Shards | None:
    """The inverse of `sharded`; None for an interleaved tensor."""
    if not memory_config.is_sharded():
        return None
    spec = memory_config.shard_spec
    if spec is not None:
        end = spec.grid.bounding_box().end
        rows, columns = spec.shape
        cut = memory_config.memory_layout.name.removesuffix("_SHARDED")
        found = Shards(placement(memory_config), cut, (rows, columns), (end.x + 1, end.y + 1))
        if sharded(found) == memory_config:
            return found
    raise ConfigError(
        f"cannot describe {memory_config}.", "Shards must fill one rectangle that starts at the first core."
    )


def weight_memory_config(memory: MemoryConfig, spec: DeviceSpec, inputs: int, outputs: int) -> Any:
    """Where a matrix [inputs, outputs] (elements) of a decode matmul lies on one chip.

    In DRAM with use_width_sharding, its columns are spread over the banks, padded to as many tiles on each; otherwise
    it is interleaved. `placement` and `shards` lead back.
    """
    if memory.weights_placement is not Placement.DRAM or not memory.use_width_sharding:
        return memory_config(memory.weights_placement)
    banks = spec.chip.dram_banks
    return sharded(Shards(Placement.DRAM, "WIDTH", (_in_tiles(inputs), _in_tiles(outputs, banks)), (banks, 1)))


def width_sharded(rows: int, width: int, cores: int, grid: tuple[int, int]) -> Any:
    """Activations [rows, width] (elements) in L1, their width spread over `cores` in a rectangle within `grid`."""
    return sharded(
        Shards(Placement.L1, "WIDTH", (_in_tiles(rows), _in_tiles(width, cores)), core_rectangle(cores, grid))
    )


def height_sharded(rows: int, width: int, cores: int, grid: tuple[int, int]) -> Any:
    """The same with the rows spread over the cores."""
    return sharded(
        Shards(Placement.L1, "HEIGHT", (_in_tiles(rows, cores), _in_tiles(width)), core_rectangle(cores, grid))
    )


# Programs


def program_config(plan: Plan) -> Any:
    """ttnn's program configuration of a plan."""
    if isinstance(plan, DramShardedPlan):
        return _dram_sharded_program(plan)
    return _multicast_program(plan) if isinstance(plan, MulticastPlan) else _sdpa_program(plan)


def plan_of(program: Any, *, cores: int = 1) -> Plan:
    """The inverse of `program_config`.

    The program of a DRAM-sharded matmul does not say on how many cores its activations lie: that is in their memory
    configuration and given here as `cores`.
    """
    kind = type(program).__name__
    if kind not in _PLANS:
        raise ConfigError(f"no plan for a {kind}.")
    plan = _PLANS[kind](program, cores)
    if str(program_config(plan)) != str(program):  # it sets what plans leave at ttnn's defaults
        raise ConfigError(f"no plan has all the settings of {program}.")
    return plan


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


def _dram_sharded_plan(program: Any, cores: int) -> DramShardedPlan:
    return DramShardedPlan(
        cores=cores,
        in0_block_w=program.in0_block_w,
        per_core_m=program.per_core_M,
        per_core_n=program.per_core_N,
        readers_per_bank=getattr(program, "num_workers_per_dram_bank", 1),
    )


def _multicast_program(plan: MulticastPlan) -> Any:
    import ttnn

    return ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(plan.columns, plan.rows),
        in0_block_w=plan.in0_block_w,
        out_subblock_h=plan.out_subblock_h,
        out_subblock_w=plan.out_subblock_w,
        per_core_M=plan.per_core_m,
        per_core_N=plan.per_core_n,
        transpose_mcast=False,
        fused_activation=None,
        fuse_batch=plan.fuse_batch,
    )


def _multicast_plan(program: Any, _: int) -> MulticastPlan:
    grid = program.compute_with_storage_grid_size
    return MulticastPlan(
        columns=grid.x,
        rows=grid.y,
        in0_block_w=program.in0_block_w,
        out_subblock_h=program.out_subblock_h,
        out_subblock_w=program.out_subblock_w,
        per_core_m=program.per_core_M,
        per_core_n=program.per_core_N,
        fuse_batch=program.fuse_batch,
    )


def _sdpa_program(plan: SdpaPlan) -> Any:
    import ttnn

    return ttnn.SDPAProgramConfig(
        compute_with_storage_grid_size=ttnn.CoreCoord(plan.columns, plan.rows),
        q_chunk_size=plan.q_chunk_size,
        k_chunk_size=plan.k_chunk_size,
    )


def _sdpa_plan(program: Any, _: int) -> SdpaPlan:
    grid = program.compute_with_storage_grid_size
    return SdpaPlan(grid.x, grid.y, program.q_chunk_size, program.k_chunk_size)


_PLANS: dict[str, Callable[[Any, int], Plan]] = {
    "MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig": _dram_sharded_plan,
    "MatmulMultiCoreReuseMultiCastProgramConfig": _multicast_plan,
    "SDPAProgramConfig": _sdpa_plan,
}

# Systems


def mesh_shape(rows_and_columns: list[int]) -> Any:
    """ttnn.MeshShape of DeviceSpec.mesh_shape."""
    import ttnn

    return ttnn.MeshShape(*rows_and_columns)


def rows_and_columns(mesh_shape: Any) -> list[int]:
    """The inverse of `mesh_shape`."""
    return list(mesh_shape)


def dispatch_core_config(kind: DispatchCoreType) -> Any:
    """ttnn.DispatchCoreConfig of a kind of core. ttnn looks at the system for it: a card or a described one."""
    import ttnn

    return ttnn.DispatchCoreConfig(getattr(ttnn.DispatchCoreType, kind.value))


def dispatch_core_type(dispatch_core_config: Any) -> DispatchCoreType:
    """The inverse of `dispatch_core_config`."""
    return enum_member(DispatchCoreType, dispatch_core_config.type.name, "dispatch_core_type")


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


def topology(fabric_config: Any | None) -> Topology:
    """The inverse of `fabric_config`: a DeviceSpec.topology."""
    if fabric_config is None:
        return Topology.none
    for known, name in FABRICS.items():
        if fabric_config.name == name:
            return known
    raise ConfigError(f"no topology for {fabric_config}.", f"Topologies: none, {', '.join(FABRICS)}.")


def open_arguments(config: DeviceConfig | DeviceSpec, l1_small_size: int = 0) -> dict[str, Any]:
    """What ttnn.open_mesh_device takes, by keyword. `l1_small_size` and the trace region are in bytes, the first per
    core, the second per chip. No way back: a mesh device does not tell what it was opened with.
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
