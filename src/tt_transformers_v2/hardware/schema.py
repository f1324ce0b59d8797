# SPDX-License-Identifier: Apache-2.0
"""What a hardware configuration is: the dataclasses that every other room reads, and with them the names of `enums`.

The classes and fields are those of the seed design; fields beyond it say so. Every assignment is checked, in the
constructor and later: a wrong name raises AttributeError, a wrong value ConfigError (a ValueError), both naming the
nearest valid one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.checked import Checked, field_types
from ..common.errors import ConfigError, did_you_mean
from .enums import (
    Arch,
    DataFormat,
    DeviceType,
    DispatchCoreType,
    MathFidelity,
    Placement,
    PrecisionMode,
    Topology,
)
from .op_table import OP_GROUP_PARENTS, OP_GROUPS, ROOT_OP_GROUPS, TENSOR_GROUP_PARENTS, ModelOp

__all__ = [
    "Arch",
    "ChipSpec",
    "ComputeConfig",
    "ComputeGroups",
    "ComputeOverride",
    "DataFormat",
    "DeviceConfig",
    "DeviceSpec",
    "DeviceType",
    "DispatchCoreType",
    "HardwareSections",
    "MathFidelity",
    "MemoryConfig",
    "ParallelismConfig",
    "Placement",
    "PrecisionConfig",
    "PrecisionMode",
    "Topology",
]


@dataclass
class ComputeConfig(Checked):
    """ttnn's compute kernel configuration: the seed's four fields and the two that ttnn has besides.

    `dst_full_sync_en` and `throttle_level` (0 to 5, ttnn.ThrottleLevel) keep ttnn's defaults unless set.
    """

    math_fidelity: MathFidelity = MathFidelity.HiFi2
    fp32_dest_acc_en: bool = True
    packer_l1_acc: bool = True
    math_approx_mode: bool = False
    dst_full_sync_en: bool = False
    throttle_level: int = 0


@dataclass
class ComputeOverride(Checked):
    """A finer op group: a field left null inherits from the parent group."""

    math_fidelity: MathFidelity | None = None
    fp32_dest_acc_en: bool | None = None
    packer_l1_acc: bool | None = None
    math_approx_mode: bool | None = None
    dst_full_sync_en: bool | None = None
    throttle_level: int | None = None


@dataclass
class ComputeGroups(Checked):
    """Compute settings by op group as conf/ writes them: the seed's three and two more roots, then finer groups."""

    mlp: ComputeConfig = field(default_factory=ComputeConfig)
    attention: ComputeConfig = field(default_factory=ComputeConfig)
    sdpa: ComputeConfig = field(default_factory=ComputeConfig)
    lm_head: ComputeConfig = field(default_factory=ComputeConfig)
    norm: ComputeConfig = field(default_factory=lambda: ComputeConfig(math_fidelity=MathFidelity.HiFi4))
    router: ComputeConfig = field(default_factory=ComputeConfig)
    ff1_ff3: ComputeOverride = field(default_factory=ComputeOverride)
    ff2: ComputeOverride = field(default_factory=ComputeOverride)
    qkv: ComputeOverride = field(default_factory=ComputeOverride)
    qkv_decode: ComputeOverride = field(default_factory=ComputeOverride)
    qkv_prefill: ComputeOverride = field(default_factory=ComputeOverride)
    o: ComputeOverride = field(default_factory=ComputeOverride)
    o_decode: ComputeOverride = field(default_factory=ComputeOverride)
    o_prefill: ComputeOverride = field(default_factory=ComputeOverride)
    sdpa_decode: ComputeOverride = field(default_factory=ComputeOverride)
    sdpa_prefill: ComputeOverride = field(default_factory=ComputeOverride)
    experts: ComputeOverride = field(default_factory=ComputeOverride)

    def table(self) -> dict[str, ComputeConfig | ComputeOverride]:
        """The groups as DeviceConfig.compute holds them: every root, and the finer groups that set something."""
        table = {name: getattr(self, name) for name in ROOT_OP_GROUPS}
        finer = {name: getattr(self, name) for name in OP_GROUP_PARENTS}
        return table | {name: own for name, own in finer.items() if own != ComputeOverride()}


@dataclass
class PrecisionConfig(Checked):
    """Precision settings by tensor group: the seed's five, then more; null inherits (op_table.TENSOR_GROUP_PARENTS)."""

    mlp_weights: DataFormat = DataFormat.BFP8
    mlp_activations: DataFormat | None = DataFormat.BF16
    attention_weights: DataFormat = DataFormat.BFP8
    attention_activations: DataFormat | None = DataFormat.BF16
    kv_cache: DataFormat = DataFormat.BFP8
    ff1_ff3: DataFormat | None = None
    ff2: DataFormat | None = None
    wqkv: DataFormat | None = None
    wo: DataFormat | None = None
    experts: DataFormat | None = None
    router: DataFormat = DataFormat.BF16
    lm_head: DataFormat = DataFormat.BFP8
    embedding: DataFormat = DataFormat.BF16
    ccl: DataFormat = DataFormat.BFP8
    activations: DataFormat = DataFormat.BF16

    def of(self, group: str) -> DataFormat:
        """The format of a tensor group, inherited ones included. Raises ConfigError for an unknown group."""
        if group not in field_types(PrecisionConfig):
            raise ConfigError(f"no tensor group named {group!r}.", did_you_mean(group, field_types(PrecisionConfig)))
        own = getattr(self, group)
        return own if own is not None else getattr(self, TENSOR_GROUP_PARENTS[group])


@dataclass
class MemoryConfig(Checked):
    """Memory placement and sharding."""

    weights_placement: Placement = Placement.DRAM
    activations_placement: Placement = Placement.L1
    kv_cache_placement: Placement = Placement.DRAM
    use_width_sharding: bool = True
    use_height_sharding: bool = False


@dataclass
class ParallelismConfig(Checked):
    """How the model is split over the chips; `data_parallel_size` is beyond the seed."""

    AT_LEAST = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "data_parallel_size": 1}  # noqa: RUF012

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    sequence_parallel: bool = False
    data_parallel_size: int = 1

    @property
    def chips(self) -> int:
        """Chips that the three kinds of parallelism need together."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size


@dataclass
class ChipSpec(Checked):
    """One chip, as published. Units: bytes, GB/s (1e9), MHz.

    `l1_usable_size` is what ttnn's allocator may hand out of a core's `l1_memory_size`. `dram_bandwidth` is nominal:
    what is reached of it stands in conf/calibration.
    """

    AT_LEAST = {  # noqa: RUF012
        "l1_memory_size": 1,
        "l1_usable_size": 1,
        "dram_size": 1,
        "dram_banks": 1,
        "dram_bandwidth": 1e-3,
        "clock_mhz": 1e-3,
        "flop_per_cycle_lofi": 1,
    }

    arch: Arch = Arch.wormhole_b0
    l1_memory_size: int = 1499136
    l1_usable_size: int = 1393312
    dram_size: int = 12884901888
    dram_banks: int = 12
    dram_bandwidth: float = 288.0
    clock_mhz: float = 1000.0
    flop_per_cycle_lofi: int = 4096
    sources: dict[str, str] = field(default_factory=dict)


@dataclass
class DeviceSpec(Checked):
    """One system: its chips, its mesh and its limits, as a file under conf/device describes it.

    `aliases` are other names users know it by, in any case. `mesh_shape` is rows x columns as ttnn.MeshShape takes it.
    `compute_grid` (columns x rows of Tensix cores per chip that programs may use) holds with dispatch on WORKER cores,
    `compute_grid_eth` with dispatch on ETH cores (null where the system cannot); `dispatch_core_type` chooses.
    `ethernet_links` are per pair of neighbouring chips. `cluster_file` is tt-umd's description of a real system, which
    preflight then checks instead of one made of this.
    """

    AT_LEAST = {  # noqa: RUF012
        "ethernet_links": 0,
        "max_prefill_chunk_size": 1,
        "max_batch_size": 1,
        "trace_region_size": 0,
        "l1_memory_size": 1,
        "dram_bandwidth": 1e-3,
    }
    PAIRS = ("mesh_shape", "compute_grid", "compute_grid_eth")

    device_type: str = DeviceType.N150.value
    description: str = ""
    aliases: list[str] = field(default_factory=list)
    chip: ChipSpec = field(default_factory=ChipSpec)
    mesh_shape: list[int] = field(default_factory=lambda: [1, 1])
    compute_grid: list[int] = field(default_factory=lambda: [8, 8])
    compute_grid_eth: list[int] | None = None
    dispatch_core_type: DispatchCoreType = DispatchCoreType.WORKER
    ethernet_links: int = 1
    topology: Topology = Topology.none
    max_prefill_chunk_size: int = 4096
    max_batch_size: int = 32
    trace_region_size: int = 50_000_000
    l1_memory_size: int | None = None
    dram_bandwidth: float | None = None
    cluster_file: str | None = None
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def chips(self) -> int:
        """Chips of the mesh."""
        rows, columns = self.mesh_shape
        return rows * columns

    @property
    def cores(self) -> int:
        """Tensix cores of one chip that a program may use."""
        columns, rows = self.grid
        return columns * rows

    @property
    def grid(self) -> list[int]:
        """Columns x rows of those cores, for the dispatch chosen. Raises ConfigError when it has no such dispatch."""
        if self.dispatch_core_type is DispatchCoreType.WORKER:
            return self.compute_grid
        if self.compute_grid_eth is None:
            raise ConfigError(f"{self.device_type} cannot dispatch from ETH cores.", "Use dispatch_core_type=WORKER.")
        return self.compute_grid_eth


@dataclass
class HardwareSections(Checked):
    """The sections of a composed configuration that make a DeviceConfig, under their names in conf/."""

    device: DeviceSpec
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    compute: ComputeGroups = field(default_factory=ComputeGroups)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    parallelism: ParallelismConfig = field(default_factory=ParallelismConfig)


@dataclass
class DeviceConfig(Checked):
    """Complete hardware configuration; the fields up to `custom_configs` are the seed's.

    `compute` holds the root op groups and those finer ones that differ; ask `compute_for(group)` for the settings an
    op runs with. `dram_bandwidth` is in GB/s over all chips, `l1_memory_size` in bytes per core, `trace_region_size` in
    bytes per chip. `system` is the published description the configuration was composed from; `layers` has the complete
    configuration of every layer that differs.
    """

    device_type: DeviceType
    precision: PrecisionConfig
    compute: dict[str, Any]
    memory: MemoryConfig
    parallelism: ParallelismConfig
    max_prefill_chunk_size: int
    max_batch_size: int
    l1_memory_size: int
    dram_bandwidth: float
    custom_configs: dict[str, Any] | None = None
    system: DeviceSpec | None = None
    trace_region_size: int = 50_000_000
    layers: dict[int, Any] = field(default_factory=dict)

    def for_layer(self, layer: int) -> DeviceConfig:
        """The configuration of one layer: its own where per-layer entries changed something, else this one."""
        return self.layers.get(layer, self)

    def compute_for(self, group: str) -> ComputeConfig:
        """All settings of an op group, inherited ones included. Raises ConfigError for an unknown group."""
        settings: dict[str, Any] = {}
        while not isinstance(own := self.compute.get(group), ComputeConfig):
            if group not in OP_GROUP_PARENTS:
                raise ConfigError(f"no op group named {group!r}.", did_you_mean(group, OP_GROUPS))
            if own is not None:
                settings = {k: v for k, v in vars(own).items() if v is not None} | settings
            group = OP_GROUP_PARENTS[group]
        return dataclasses.replace(own, **settings)

    def kernel(self, op: ModelOp, phase: str) -> ComputeConfig:
        """The settings that an op runs with in a phase, "decode" or "prefill". ConfigError for ops without any."""
        return self.compute_for(op.group_in(phase))

    def activations(self, op: ModelOp) -> DataFormat:
        """The format of an op's output."""
        return self.precision.of(op.activations)

    def own_layers(self) -> list[tuple[DeviceConfig, list[int]]]:
        """The different configurations among `layers`, and which layers have each."""
        kinds: dict[int, tuple[DeviceConfig, list[int]]] = {}
        for layer, own in self.layers.items():
            kinds.setdefault(id(own), (own, []))[1].append(layer)
        return list(kinds.values())

    def layer_kinds(self, num_layers: int) -> list[tuple[DeviceConfig, Sequence[int]]]:
        """The different configurations that a model's layers have, and which layers have each: this one first."""
        if not self.layers:
            return [(self, range(num_layers))]
        common = sorted(set(range(num_layers)).difference(self.layers))
        return [*([(self, common)] if common else []), *self.own_layers()]

    @property
    def spec(self) -> DeviceSpec:
        """The system's description. Raises ConfigError where the configuration was made without one."""
        if self.system is None:
            raise ConfigError(
                "this DeviceConfig has no system description.", "Create it with AutoHardwareConfig.from_device."
            )
        return self.system
