# SPDX-License-Identifier: Apache-2.0
"""Over how many chips heads are split."""

from __future__ import annotations

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import DeviceType
from tt_transformers_v2.hardware.schema import (
    ComputeGroups,
    DeviceConfig,
    DeviceSpec,
    MemoryConfig,
    ParallelismConfig,
    PrecisionConfig,
)
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.planning.split import Split, head_split, lm_head_parts


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


@pytest.mark.parametrize(("head_dim", "refused"), [(32, False), (48, True), (64, False), (80, True), (96, False)])
def test_heads_that_are_not_whole_tiles_are_not_split_for_ttnn(head_dim, refused):
    spec = ModelSpec.uniform(1024, 512, 1, 8, 1024, num_kv_heads=8, head_dim=head_dim)
    if not refused:
        assert Split.of(on_mesh((1, 8), 8), spec).q_heads(spec) == 1
        return
    with pytest.raises(ConfigError, match=f"head_dim={head_dim} cannot run on a card: it is not whole tiles of 32"):
        Split.of(on_mesh((1, 8), 8), spec)


@pytest.mark.parametrize(
    ("outputs", "most", "widths"),
    [(128, 128, [128]), (160, 128, [96, 64]), (64, 32, [32, 32]), (96, 64, [64, 32]), (128256, 32768, [32064] * 4)],
)
def test_an_lm_head_is_cut_into_like_parts_of_whole_tiles(outputs, most, widths):
    assert lm_head_parts(outputs, most) == widths
