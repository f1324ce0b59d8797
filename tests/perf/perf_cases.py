# SPDX-License-Identifier: Apache-2.0
"""Devices, models and constants built by hand: the performance model is tested without composition."""

from __future__ import annotations

import yaml

from places import ROOT
from tt_transformers_v2.hardware.enums import Arch, DataFormat, DeviceType, MathFidelity
from tt_transformers_v2.hardware.schema import (
    ChipSpec,
    ComputeGroups,
    ComputeOverride,
    DeviceConfig,
    DeviceSpec,
    MemoryConfig,
    ParallelismConfig,
    PrecisionConfig,
)
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf.calibration import Calibration

CHIPS = {"N150": (1, [8, 8], "none"), "N300": (2, [8, 7], "line"), "T3K": (8, [8, 7], "ring")}
SHAPES = {  # hidden, layers, heads, FFN, head_dim, tied; all with 8 KV heads
    "Llama-3.2-1B": (2048, 16, 32, 8192, 64, True),
    "Llama-3.2-3B": (3072, 28, 24, 8192, 128, True),
    "Llama-3.1-8B": (4096, 32, 32, 14336, 128, False),
    "Llama-3.1-70B": (8192, 80, 64, 28672, 128, False),
}


def make_model(name: str) -> ModelSpec:
    hidden, layers, heads, ffn, head_dim, tied = SHAPES[name]
    return ModelSpec.uniform(
        128256, hidden, layers, heads, ffn, 8, head_dim, name=name, family="llama-3", tie_embeddings=tied
    )


def wormhole_chip() -> ChipSpec:
    return ChipSpec(
        arch=Arch.wormhole_b0,
        l1_memory_size=1499136,
        dram_size=12 << 30,
        dram_banks=12,
        dram_bandwidth=288.0,
        clock_mhz=1000.0,
    )


def blackhole_chip() -> ChipSpec:
    return ChipSpec(
        arch=Arch.blackhole,
        l1_memory_size=1572864,
        dram_size=34225520640,
        dram_banks=8,
        dram_bandwidth=512.0,
        clock_mhz=1350.0,
    )


def make_device(
    name: str,
    *,
    ff1_ff3: str = "BFP4",
    mlp_fidelity: str = "LoFi",
    tensor_parallel: int | None = None,
    data_parallel: int = 1,
) -> DeviceConfig:
    """A device in tt_transformers' performance mode; ff1_ff3="BFP8", mlp_fidelity="HiFi2" is accuracy."""
    if name == "P150":
        chips, grid, topology, chip = 1, [11, 10], "none", blackhole_chip()
    else:
        chips, grid, topology = CHIPS[name]
        chip = wormhole_chip()
    groups = ComputeGroups(
        ff1_ff3=ComputeOverride(math_fidelity=MathFidelity(mlp_fidelity), fp32_dest_acc_en=False),
        ff2=ComputeOverride(math_fidelity=MathFidelity.HiFi2, fp32_dest_acc_en=False),
        sdpa_prefill=ComputeOverride(math_fidelity=MathFidelity.HiFi4),
    )
    return DeviceConfig(
        device_type=DeviceType(name),
        precision=PrecisionConfig(ff1_ff3=DataFormat(ff1_ff3)),
        compute=groups.table(),
        memory=MemoryConfig(),
        parallelism=ParallelismConfig(tensor_parallel_size=tensor_parallel or chips, data_parallel_size=data_parallel),
        max_prefill_chunk_size=131072,
        max_batch_size=32,
        l1_memory_size=chip.l1_memory_size,
        dram_bandwidth=chip.dram_bandwidth * chips,
        system=DeviceSpec(
            device_type=DeviceType(name),
            chip=chip,
            mesh_shape=[1, chips],
            compute_grid=grid,
            ethernet_links=2 if chips > 1 else 0,
            topology=topology,
        ),
    )


def calibration_data() -> dict:
    return yaml.safe_load((ROOT / "conf/calibration/tt_metal_2025.yaml").read_text(encoding="utf-8"))


CALIBRATION = Calibration.from_dict(calibration_data())
