# SPDX-License-Identifier: Apache-2.0
"""Over how many chips heads are split."""

from __future__ import annotations

import pytest

from tt_transformers_v2.hardware.enums import DeviceType
from tt_transformers_v2.hardware.schema import (
    ComputeGroups,
    DeviceConfig,
    DeviceSpec,
    MemoryConfig,
    ParallelismConfig,
    PrecisionConfig,
)
from tt_transformers_v2.planning.split import head_split


def on_mesh(mesh_shape, tensor_parallel):
    return DeviceConfig(
        device_type=DeviceType.T3K,
        precision=PrecisionConfig(),
        compute=ComputeGroups().table(),
        memory=MemoryConfig(),
        parallelism=ParallelismConfig(tensor_parallel_size=tensor_parallel),
        max_prefill_chunk_size=4096,
        max_batch_size=32,
        l1_memory_size=1499136,
        dram_bandwidth=288.0,
        system=DeviceSpec(mesh_shape=list(mesh_shape)),
    )


@pytest.mark.parametrize(
    ("mesh_shape", "tensor_parallel", "chips"),
    [
        ((1, 1), 1, 1),
        ((1, 8), 7, 7),
        ((1, 8), 8, 8),
        ((8, 1), 8, 8),
        ((8, 4), 8, 8),
        ((8, 4), 9, 8),
        ((8, 4), 32, 8),
        ((4, 8), 32, 8),
        ((8, 4), 4, 4),
    ],
)
def test_heads_are_split_over_the_longer_axis_at_most(mesh_shape, tensor_parallel, chips):
    assert head_split(on_mesh(mesh_shape, tensor_parallel)) == chips
