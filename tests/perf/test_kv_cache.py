# SPDX-License-Identifier: Apache-2.0
"""Bytes of KV cache on one chip."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from perf_cases import make_device

from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.perf.footprint import kv_cache_bytes

# Keys and values of one layer, one head, one user and one tile of 32 tokens and 32 elements, in BFP8.
UNIT = 2 * 1088
ONE = {"num_layers": 1, "num_heads": 8, "num_kv_heads": 1, "head_dim": 32}


def bytes_of(batch=1, context=32, *, chips=1, data=1, stages=1, kv_cache="BFP8", **shape):
    config = make_device("T3K", tensor_parallel=chips, data_parallel=data)
    config.parallelism.pipeline_parallel_size = stages
    config.precision.kv_cache = DataFormat(kv_cache)
    return kv_cache_bytes(config, SimpleNamespace(**ONE | shape), batch, context)


@pytest.mark.parametrize(
    ("asked", "units"),
    [
        ({}, 1),
        ({"context": 1}, 1),
        ({"context": 33}, 2),
        ({"context": 64}, 2),
        ({"head_dim": 1}, 1),
        ({"head_dim": 33}, 2),
        ({"head_dim": 128}, 4),
        ({"context": 64, "head_dim": 96}, 6),
        ({"num_layers": 5}, 5),
        ({"num_layers": 5, "stages": 2}, 3),
        ({"num_layers": 6, "stages": 2}, 3),
        ({"num_kv_heads": 8}, 8),
        ({"num_kv_heads": 8, "chips": 4}, 2),
        ({"num_kv_heads": 8, "chips": 3}, 3),
        ({"num_kv_heads": 2, "chips": 8}, 1),
        ({"batch": 7}, 7),
        ({"batch": 7, "data": 2}, 4),
        ({"batch": 8, "data": 2}, 4),
        ({"batch": 3, "context": 65, "num_layers": 2, "num_kv_heads": 5, "head_dim": 64}, 3 * 3 * 2 * 5 * 2),
    ],
)
def test_a_cache_is_whole_tiles_of_a_chips_layers_heads_and_users(asked, units):
    assert bytes_of(**asked) == units * UNIT


@pytest.mark.parametrize(("kv_cache", "tile"), [("BFP4", 576), ("BFP8", 1088), ("BF16", 2048)])
def test_a_cache_is_in_its_own_format(kv_cache, tile):
    assert bytes_of(kv_cache=kv_cache) == 2 * tile
