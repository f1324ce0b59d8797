# SPDX-License-Identifier: Apache-2.0
"""What a preset asks for that a model cannot have: narrowed, moved, and said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tt_transformers_v2.config.adjustments import fit_to_model
from tt_transformers_v2.config.model_rules import RuleEffect
from tt_transformers_v2.hardware import AutoHardwareConfig
from tt_transformers_v2.models.spec import ModelSpec

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
    fit_to_model(config, with_heads(heads, kv_heads))
    assert (config.parallelism.tensor_parallel_size, config.parallelism.data_parallel_size) == (tensor, data)


def test_heads_need_not_be_a_multiple_of_kv_heads():
    config, model = AutoHardwareConfig.from_device("T3K"), SimpleNamespace(num_heads=12, num_kv_heads=8)
    fit_to_model(config, model)
    assert (config.parallelism.tensor_parallel_size, config.parallelism.data_parallel_size) == (4, 2)


def test_what_became_of_a_split_is_said():
    tensor, data = fit_to_model(AutoHardwareConfig.from_device("T3K"), with_heads(32, 2))
    rule, why = "tensor-parallel-divides-heads", "32 heads and 2 KV heads do not divide over 8 chips"
    assert tensor == RuleEffect(rule, "parallelism.tensor_parallel_size", 2, 8)
    assert data == RuleEffect(rule, "parallelism.data_parallel_size", 4, 1)
    assert isinstance(data.value, int)
    assert tensor.why == data.why == why


@pytest.mark.parametrize("path", ["parallelism.tensor_parallel_size", "parallelism.data_parallel_size"])
def test_a_typed_split_is_left_for_the_checks(path):
    config = AutoHardwareConfig.from_device("T3K")
    assert fit_to_model(config, SMOL, typed={path}) == []
    assert config.parallelism.tensor_parallel_size == 8


def test_what_else_is_typed_leaves_the_split_to_the_preset():
    config = AutoHardwareConfig.from_device("T3K")
    fit_to_model(config, SMOL, typed={"precision.kv_cache", "memory.weights_placement"})
    assert config.parallelism.tensor_parallel_size == 1


@pytest.mark.parametrize("device", ["N150", "T3K", "P150"])
@pytest.mark.parametrize("model", [SMOL, LLAMA_8B])
def test_a_presets_kv_cache_moves_to_dram_however_small_it_is(device, model):
    config = AutoHardwareConfig.from_device(device, "accuracy")
    assert config.memory.kv_cache_placement == "L1"
    moved = fit_to_model(config, model, typed={"memory.weights_placement", "precision.kv_cache"})[-1]
    assert config.memory.kv_cache_placement == "DRAM"
    assert moved == RuleEffect("kv-cache-in-dram", "memory.kv_cache_placement", "DRAM", "L1")
    assert moved.why == "ttnn's decode attention reads the KV cache from DRAM only"


def test_a_typed_placement_is_left_for_the_checks():
    config = AutoHardwareConfig.from_device("N150", "accuracy")
    assert fit_to_model(config, LLAMA_8B, typed={"memory.kv_cache_placement"}) == []
    assert config.memory.kv_cache_placement == "L1"


def test_of_a_kv_cache_in_dram_nothing_is_said():
    config = AutoHardwareConfig.from_device("N150", "performance")
    assert config.memory.kv_cache_placement == "DRAM"
    assert fit_to_model(config, SMOL) == []
    assert fit_to_model(config, LLAMA_8B) == []
