# SPDX-License-Identifier: Apache-2.0
"""What lies in the L1 of a core."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_cases import make_device, make_model

from tt_transformers_v2.config.checks import check
from tt_transformers_v2.hardware.enums import DataFormat, Placement
from tt_transformers_v2.perf.footprint import kv_cache_bytes
from tt_transformers_v2.perf.l1 import l1_map

BF16, BFP8 = 2048, 1088  # bytes per tile
USABLE = 1393312  # of a Wormhole core


def test_every_byte_of_llama_8b_on_an_n150():
    """64 cores; tiles per core of one row of tiles: 4096 wide 2, QKV of 6144 3, an MLP of 14336 7."""
    l1 = l1_map(make_device("N150"), make_model("Llama-3.1-8B"), batch=1, context=128)
    assert (l1.residual, l1.attention, l1.mlp) == (2 * BF16, 2 * 3 * BF16, 3 * 7 * BF16)
    assert l1.activations == l1.used == 23 * BF16
    assert (l1.kv_cache, l1.weights) == (0, 0)
    assert (l1.size, l1.usable, l1.left) == (1499136, USABLE, USABLE - 23 * BF16)
    assert not l1.over


def test_rows_come_in_tiles_of_32_users():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    sizes = [l1_map(hw, spec, batch=batch, context=128).activations // BF16 for batch in (1, 32, 33, 64, 65)]
    assert sizes == [23, 23, 46, 46, 69]


def test_shares_are_whole_tiles_on_the_fullest_core():
    """On 56 cores of an n300 chip: 2048 of the residual stream are 64 tiles, an MLP's half of 14336 is 224."""
    l1 = l1_map(make_device("N300"), make_model("Llama-3.1-8B"), batch=1, context=128)
    assert (l1.residual, l1.mlp) == (2 * BF16, 3 * 4 * BF16)


def test_activations_in_dram_take_no_l1():
    hw = make_device("N150")
    hw.memory.activations_placement = Placement.DRAM
    l1 = l1_map(hw, make_model("Llama-3.1-8B"), batch=32, context=128)
    assert (l1.residual, l1.attention, l1.mlp, l1.used) == (0, 0, 0, 0)


def test_formats_are_those_of_attention_and_mlp():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    hw.precision = dataclasses.replace(
        hw.precision, attention_activations=DataFormat.BFP8, mlp_activations=DataFormat.BFP8
    )
    l1 = l1_map(hw, spec, batch=1, context=128)
    assert (l1.residual, l1.attention, l1.mlp) == (2 * BF16, 2 * 3 * BFP8, 3 * 7 * BFP8)


def test_the_kv_cache_is_shared_out_over_the_cores():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    hw.memory.kv_cache_placement = Placement.L1
    l1 = l1_map(hw, spec, batch=3, context=200)
    assert l1.kv_cache == 3 * 2 * 16 * 8 * (7 * 2) * BFP8 // 64
    assert [line.bytes for line in l1.lines() if line.name == "KV cache"] == [l1.kv_cache]


def test_weights_in_l1_are_matrices_without_what_pads_them_to_banks():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    hw.precision.ff1_ff3 = DataFormat.BFP8
    hw.memory.weights_placement = Placement.L1
    l1 = l1_map(hw, spec, batch=1, context=128)
    layer = 2048 * 3072 + 2048 * 2048 + 3 * 2048 * 8192
    assert l1.weights == (16 * layer + 2048 * 128256) // 1024 * BFP8 // 64
    assert l1.over
    assert l1.left < 0


def test_a_typed_l1_size_takes_from_what_is_usable():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    hw.l1_memory_size -= 100_000
    assert l1_map(hw, spec, batch=1, context=128).usable == USABLE - 100_000


@given(
    st.sampled_from(["N150", "N300", "T3K", "P150"]),
    st.sampled_from(["Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B"]),
    st.integers(1, 32),
    st.integers(1, 16384),
)
@settings(max_examples=100, deadline=None)
def test_it_agrees_with_the_finding_about_the_kv_cache(name, model, batch, context):
    """What the finding refuses is over."""
    hw, spec = make_device(name), make_model(model)
    hw.memory.kv_cache_placement = Placement.L1
    l1 = l1_map(hw, spec, batch=batch, context=context)
    assert l1.kv_cache == pytest.approx(kv_cache_bytes(hw, spec, batch, context) / hw.spec.cores, abs=1)
    refused = "kv-cache-over-l1" in {finding.id for finding in check(hw, spec, batch=batch, context=context)}
    assert l1.over or not refused
