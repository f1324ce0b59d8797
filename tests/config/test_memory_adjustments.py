# SPDX-License-Identifier: Apache-2.0
"""The computed prefill chunk, and what is said where DRAM does not hold a model."""

from __future__ import annotations

import dataclasses

import pytest

from tt_transformers_v2.config.memory_adjustments import LARGEST_CHUNK, SMALLEST_CHUNK, computed_chunk
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf.footprint import activation_bytes_per_token, weight_bytes
from tt_transformers_v2.perf.memory import dram_left

# No table names it.
SMALL = ModelSpec.uniform(32000, 2048, 16, 16, 8192, num_kv_heads=8, name="small")


def with_room_for(tokens, spec=SMALL):
    """An n150 whose DRAM beside the weights is just twice `tokens` of activations; of it half is used."""
    config = AutoHardwareConfig.from_device("N150")
    free = dram_left(config, sum(weight_bytes(config, spec).values()))
    config.trace_region_size += free - 2 * tokens * activation_bytes_per_token(config, spec)
    return config


@pytest.mark.parametrize(
    ("tokens", "chunk"),
    [
        (-1, SMALLEST_CHUNK),
        (0, SMALLEST_CHUNK),
        (SMALLEST_CHUNK - 1, SMALLEST_CHUNK),
        (SMALLEST_CHUNK, SMALLEST_CHUNK),
        (2 * SMALLEST_CHUNK - 1, SMALLEST_CHUNK),
        (2 * SMALLEST_CHUNK, 2 * SMALLEST_CHUNK),
        (LARGEST_CHUNK - 1, LARGEST_CHUNK // 2),
        (LARGEST_CHUNK, LARGEST_CHUNK),
    ],
)
def test_a_chunk_is_the_largest_power_of_two_that_half_of_the_dram_left_holds(tokens, chunk):
    config = with_room_for(tokens)
    computed_chunk(config, SMALL, ())
    assert config.max_prefill_chunk_size == chunk


@pytest.mark.parametrize(
    ("context", "chunk"),
    [
        (1, 32),
        (32, 32),
        (63, 32),
        (64, 64),
        (1023, 512),
        (1024, 1024),
        (LARGEST_CHUNK - 1, LARGEST_CHUNK // 2),
        (LARGEST_CHUNK, LARGEST_CHUNK),
        (4 * LARGEST_CHUNK, LARGEST_CHUNK),
    ],
)
def test_a_chunk_is_no_longer_than_the_context_and_whole_tiles(context, chunk):
    spec = dataclasses.replace(SMALL, max_context=context)
    config = with_room_for(2 * LARGEST_CHUNK, spec)
    config.max_prefill_chunk_size = 99 * 32
    computed_chunk(config, spec, ())
    assert config.max_prefill_chunk_size == chunk
