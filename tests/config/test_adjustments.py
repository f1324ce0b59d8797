# SPDX-License-Identifier: Apache-2.0
"""What a preset asks for that a model cannot have: narrowed, moved, and said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tt_transformers_v2.config.adjustments import fit_to_model
from tt_transformers_v2.config.model_rules import RuleEffect
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf.footprint import kv_cache_bytes

SMOL = ModelSpec.uniform(49152, 576, 30, 9, 1536, num_kv_heads=3, tie_embeddings=True, name="SmolLM2-135M")
LLAMA_8B = ModelSpec.uniform(128256, 4096, 32, 32, 14336, num_kv_heads=8, name="Llama-3.1-8B-Instruct")


def with_heads(heads, kv_heads):
    return ModelSpec.uniform(32000, 64 * heads, 2, heads, 1024, num_kv_heads=kv_heads)


@pytest.mark.parametrize(
    ("device", "heads", "kv_heads", "tensor", "data"),
    [
        ("T3K", 8, 8, 8, 1),
        ("T3K", 16, 8, 8, 1),
        ("T3K", 32, 4, 4, 2),
        ("T3K", 40, 10, 2, 4),
        ("T3K", 9, 3, 1, 8),
        ("T3K", 24, 6, 2, 4),
        ("N300", 9, 3, 1, 2),
        ("N150", 9, 3, 1, 1),
        ("TG", 64, 8, 32, 1),  # heads are split over the longer axis, of 8 chips
        ("TG", 28, 4, 4, 8),
    ],
)
def test_a_split_is_the_widest_that_divides_the_heads_and_the_rest_are_groups(device, heads, kv_heads, tensor, data):
    config = AutoHardwareConfig.from_device(device)
    fit_to_model(config, with_heads(heads, kv_heads), batch=1, context=128)
    assert (config.parallelism.tensor_parallel_size, config.parallelism.data_parallel_size) == (tensor, data)


def test_heads_need_not_be_a_multiple_of_kv_heads():
    config, model = AutoHardwareConfig.from_device("T3K"), SimpleNamespace(num_heads=12, num_kv_heads=8)
    fit_to_model(config, model, batch=1, context=128)
    assert (config.parallelism.tensor_parallel_size, config.parallelism.data_parallel_size) == (4, 2)


def test_what_became_of_a_split_is_said():
    tensor, data = fit_to_model(AutoHardwareConfig.from_device("T3K"), with_heads(32, 2), batch=1, context=128)
    rule, why = "tensor-parallel-divides-heads", "32 heads and 2 KV heads do not divide over 8 chips"
    assert tensor == RuleEffect(rule, "parallelism.tensor_parallel_size", 2, 8)
    assert data == RuleEffect(rule, "parallelism.data_parallel_size", 4, 1)
    assert isinstance(data.value, int)
    assert tensor.why == data.why == why


@pytest.mark.parametrize("path", ["parallelism.tensor_parallel_size", "parallelism.data_parallel_size"])
def test_a_typed_split_is_left_for_the_checks(path):
    config = AutoHardwareConfig.from_device("T3K")
    assert fit_to_model(config, SMOL, batch=1, context=128, typed={path}) == []
    assert config.parallelism.tensor_parallel_size == 8


def test_what_else_is_typed_leaves_the_split_to_the_preset():
    config = AutoHardwareConfig.from_device("T3K")
    fit_to_model(config, SMOL, batch=1, context=128, typed={"precision.kv_cache", "memory.weights_placement"})
    assert config.parallelism.tensor_parallel_size == 1


def with_l1(half, spare):
    """An n150 whose chips' L1 is twice `half` bytes and `spare` more, in accuracy mode: the KV cache is to be in L1."""
    config = AutoHardwareConfig.from_device("N150", "accuracy")
    assert config.memory.kv_cache_placement == "L1"
    cores = config.spec.cores
    assert (2 * half + spare) % cores == 0
    config.l1_memory_size = (2 * half + spare) // cores
    return config


# Keys and values of 30 layers, 3 heads and 4 x 2 tiles in BF16, for one user of 128 tokens.
CACHE = 2 * 30 * 3 * (4 * 2) * 2048


@pytest.mark.parametrize(
    ("half", "spare", "batch", "context", "placement"),
    [
        (CACHE, 0, 1, 128, "L1"),
        (CACHE, 0, 1, 129, "DRAM"),
        (CACHE, 0, 2, 128, "DRAM"),
        (CACHE - 32, 0, 1, 128, "DRAM"),
        (CACHE + 32, 0, 1, 128, "L1"),
        (2 * CACHE, 0, 2, 128, "L1"),
    ],
)
def test_a_kv_cache_over_half_of_l1_moves_to_dram(half, spare, batch, context, placement):
    config = with_l1(half, spare)
    assert kv_cache_bytes(config, SMOL, 1, 128) == CACHE
    fit_to_model(config, SMOL, batch=batch, context=context)
    assert config.memory.kv_cache_placement == placement


def test_where_a_kv_cache_moved_is_said():
    config = AutoHardwareConfig.from_device("N150", "accuracy")
    config.l1_memory_size = 10**11 + 12_500
    (moved,) = fit_to_model(config, LLAMA_8B, batch=32_000, context=1_000_004)
    assert moved == RuleEffect("kv-cache-fits-l1", "memory.kv_cache_placement", "DRAM", "L1")
    assert moved.why == (
        "the KV cache needs 4194438217.7 MB per chip, over half of its L1 (3200000.4 MB); the other half is for "
        "activations and buffers"
    )


def test_a_typed_placement_is_left_for_the_checks():
    config = AutoHardwareConfig.from_device("N150", "accuracy")
    typed = {"memory.kv_cache_placement"}
    assert fit_to_model(config, LLAMA_8B, batch=32, context=4096, typed=typed) == []
    assert config.memory.kv_cache_placement == "L1"


def test_of_a_kv_cache_in_dram_nothing_is_said():
    config = AutoHardwareConfig.from_device("N150", "performance")
    assert config.memory.kv_cache_placement == "DRAM"
    assert fit_to_model(config, SMOL, batch=1, context=1) == []
    assert fit_to_model(config, LLAMA_8B, batch=32, context=4096) == []


def test_a_cache_is_looked_at_as_the_split_has_become():
    """Eight users are one per group of the narrowed split, and so fit where eight on a chip would not."""
    config = AutoHardwareConfig.from_device("T3K", "accuracy")
    config.l1_memory_size = 2 * CACHE // config.spec.cores + 1
    fit_to_model(config, SMOL, batch=8, context=128)
    assert (config.parallelism.data_parallel_size, config.memory.kv_cache_placement) == (8, "L1")
