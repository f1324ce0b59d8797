# SPDX-License-Identifier: Apache-2.0
"""What fits into a chip's DRAM, and what is said when it does not."""

from __future__ import annotations

import dataclasses
import math
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_cases import make_device, make_model

from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.hardware.enums import DataFormat, Placement
from tt_transformers_v2.perf import memory_fit
from tt_transformers_v2.perf.footprint import activation_bytes_per_token
from tt_transformers_v2.perf.memory import DYNAMIC_TRACES

GIB = 1 << 30
BFP4, BFP8 = 576, 1088  # bytes per tile


def test_every_byte_of_llama_1b_on_an_n150():
    """Matrices in tiles: depth x (columns on each of 12 banks) x 12; 16 layers; performance mode."""
    fit = memory_fit(make_device("N150"), make_model("Llama-3.2-1B"), batch=2, context=100)
    assert fit.weights == {
        "wqkv": 16 * 64 * (8 * 12) * BFP8,  # 2048 x (2048 + 2 x 512): 96 columns of tiles, 8 on a bank
        "wo": 16 * 64 * (6 * 12) * BFP8,  # 64 columns are padded to 72
        "ff1_ff3": 2 * 16 * 64 * (22 * 12) * BFP4,  # 256 to 264
        "ff2": 16 * 256 * (6 * 12) * BFP8,
        "lm_head": 64 * 4008 * BFP8,  # 128256 columns: 334 on a bank
        "embedding": 128256 * 2048 * 2,
        "norm": (16 * 2 * 2048 + 2048) * 2,
    }
    assert fit.kv_cache == 2 * (2 * 16) * 8 * (4 * 2) * BFP8  # users, K and V of 16 layers, heads, 128 x 64 in tiles
    assert fit.trace_region == 50_000_000
    # 128 tokens in BF16: the residual stream of 2048, then gate, up and their product of 8192
    assert fit.activations == 128 * (2048 + 3 * 8192) * 2
    assert (fit.dram_size, fit.available, fit.reserve) == (12 * GIB, 12240656793, 644245095)
    assert fit.used == 1_678_475_392
    assert fit.free == fit.available - fit.used


def test_interleaved_weights_are_not_padded():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    hw.memory.use_width_sharding = False
    weights = memory_fit(hw, spec, context=1024).weights
    assert weights["ff1_ff3"] == 2 * 32 * 4096 * 14336 * BFP4 // 1024
    assert weights["wo"] == 32 * 4096 * 4096 * BFP8 // 1024


def test_wo_is_interleaved_where_it_is_multiplied_while_gathering():
    """2048 and 8192 fuse over eight chips, 3072 does not: 96 columns are 8 on a bank, 64 would be padded to 72."""
    wo = {
        name: memory_fit(make_device("T3K"), make_model(name)).weights["wo"]
        for name in ("Llama-3.2-1B", "Llama-3.2-3B")
    }
    assert wo == {"Llama-3.2-1B": 16 * 8 * 64 * BFP8, "Llama-3.2-3B": 28 * 12 * 96 * BFP8}
    by_four = memory_fit(make_device("T3K", tensor_parallel=4), make_model("Llama-3.2-1B")).weights["wo"]
    assert by_four == 16 * 16 * 72 * BFP8


def test_llama_70b_does_not_fit_n150_and_says_by_how_much():
    fit = memory_fit(make_device("N150"), make_model("Llama-3.1-70B"), context=2048)
    assert not fit.fits
    assert -fit.free / GIB == pytest.approx(43.5, abs=0.1)
    assert f"{-fit.free / GIB:.2f} GiB more than the 11.06 GiB available" in fit.summary
    assert "use more chips" in fit.summary
    assert (fit.largest_batch, fit.largest_context) == (0, 0)


def test_llama_70b_fits_t3k_in_chunks_of_32k_and_not_as_one_of_128k():
    hw, spec = make_device("T3K"), make_model("Llama-3.1-70B")
    hw.trace_region_size = 90_000_000
    assert not memory_fit(hw, spec, context=131072).fits
    hw.max_prefill_chunk_size = 32768
    fit = memory_fit(hw, spec, context=131072)
    assert fit.fits
    assert "fits in DRAM" in fit.summary


def test_the_trace_region_is_taken_out_of_what_is_free():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    hw.trace_region_size = 1
    without = memory_fit(hw, spec, context=1024)
    hw.trace_region_size = 1 + (1 << 30)
    with_it = memory_fit(hw, spec, context=1024)
    assert without.free - with_it.free == with_it.used - without.used == 1 << 30
    assert without.available == with_it.available


def test_traces_that_ttnn_allocates_as_they_come_take_dram_too():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    hw.trace_region_size = 0
    assert memory_fit(hw, spec).trace_region == DYNAMIC_TRACES
    hw.trace_region_size = DYNAMIC_TRACES
    fixed = memory_fit(hw, spec)
    hw.trace_region_size = 0
    assert memory_fit(hw, spec) == fixed


def test_prefill_takes_what_a_chunk_takes_and_a_short_prompt_less():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    per_token = activation_bytes_per_token(hw, spec)
    sizes = {}
    for chunk in (2048, 131072):
        hw.max_prefill_chunk_size = chunk
        sizes[chunk] = [memory_fit(hw, spec, context=n).activations // per_token for n in (1, 1000, 2000, 9000)]
    assert sizes == {2048: [128, 1024, 2048, 2048], 131072: [128, 1024, 2048, 16384]}


def test_the_reserve_is_five_percent_or_prefill_its_loss_rotary_tables_and_what_is_not_named():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    five, unnamed = 644_245_095, 579_820_585  # of 12 GiB
    reserves = {}
    for chunk in (128, 4096, 8192, 131072):
        hw.max_prefill_chunk_size = chunk
        fit = memory_fit(hw, spec, context=128 if chunk == 128 else 131072)
        reserves[chunk] = fit.reserve
        assert fit.available == fit.dram_size - fit.reserve
    assert reserves.pop(128) == five
    per_token, position = (2048 + 3 * 8192) * 2, 2 * 2 * 64
    assert reserves == {
        chunk: chunk * per_token + math.ceil(chunk * per_token / 10) + position * (131072 + chunk) + unnamed
        for chunk in reserves
    }


def test_the_layer_with_the_widest_activations_counts():
    hw, spec = make_device("N150"), make_model("Llama-3.2-1B")
    hw.precision.mlp_activations = hw.precision.attention_activations = DataFormat.BFP8
    narrow = activation_bytes_per_token(hw, spec)
    own = dataclasses.replace(hw, precision=dataclasses.replace(hw.precision, mlp_activations=DataFormat.BF16))
    hw.layers = {3: own}
    assert activation_bytes_per_token(hw, spec) == activation_bytes_per_token(own, spec) > 1.5 * narrow


def test_gate_and_up_keep_the_wider_format_of_mixed_activations():
    hw, spec = make_device("N150"), make_model("Llama-3.1-8B")
    hw.precision.mlp_activations = DataFormat.BFP8
    product = 14336 * BFP8 // 1024
    assert activation_bytes_per_token(hw, spec) == 4096 * 2 + 2 * 14336 * 2 + product


def test_tied_embeddings_are_stored_twice():
    tied = make_model("Llama-3.2-1B")
    untied = dataclasses.replace(tied, tie_embeddings=False)
    hw = make_device("N150")
    assert memory_fit(hw, tied).weights == memory_fit(hw, untied).weights


def test_kv_heads_are_split_until_they_run_out_and_then_replicated():
    spec = dataclasses.replace(make_model("Llama-3.1-8B"), num_kv_heads=4)
    caches = {tp: memory_fit(make_device("T3K", tensor_parallel=tp), spec, context=4096) for tp in (2, 4, 8)}
    assert caches[2].kv_cache == 2 * caches[4].kv_cache
    assert caches[8].kv_cache == caches[4].kv_cache
    assert "replicated" in caches[8].summary
    assert "replicated" not in caches[4].summary


def test_pipeline_stages_split_layers_and_the_fullest_counts():
    hw, spec = make_device("T3K", tensor_parallel=4), make_model("Llama-3.1-70B")
    whole = memory_fit(hw, spec, context=1024)
    hw.parallelism.pipeline_parallel_size = 2
    half = memory_fit(hw, spec, context=1024)
    assert 2 * half.weights["ff2"] == whole.weights["ff2"]
    assert 2 * half.kv_cache == whole.kv_cache
    hw.parallelism.pipeline_parallel_size = 3
    assert memory_fit(hw, spec, context=1024).kv_cache * 80 == whole.kv_cache * 27


def test_the_limits_of_device_and_dram_are_both_told():
    fit = memory_fit(make_device("N150"), make_model("Llama-3.2-1B"), context=128)
    assert (fit.most_users, fit.largest_batch > 32) == (32, True)
    assert f"{fit.largest_batch} users with 128 tokens (the device supports 32)" in fit.summary
    assert "1 user with 131072 tokens" not in memory_fit(make_device("N150"), make_model("Llama-3.1-8B")).summary


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"context": 0}, {"batch": True}])
def test_nonsense_sizes_are_refused(sizes):
    with pytest.raises(ConfigError, match="must be a whole number"):
        memory_fit(make_device("N150"), make_model("Llama-3.2-1B"), **sizes)


def test_it_is_cheap_enough_to_ask_of_every_candidate():
    hw, spec = make_device("T3K"), make_model("Llama-3.1-70B")
    assert min(timeit.repeat(lambda: memory_fit(hw, spec), number=20, repeat=5)) / 20 < 1e-3  # some 90 us


devices = st.sampled_from([("N150", 1, 1), ("N300", 2, 1), ("T3K", 8, 1), ("T3K", 2, 4), ("P150", 1, 1)]).map(
    lambda which: make_device(which[0], tensor_parallel=which[1], data_parallel=which[2])
)
models = st.sampled_from(["Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B"]).map(make_model)
formats = st.sampled_from(list(DataFormat))


@given(
    devices,
    models,
    st.integers(1, 64),
    st.integers(1, 131072),
    formats,
    st.sampled_from([1024, 4096, 131072]),
    st.sampled_from(list(Placement)),
)
@settings(max_examples=150, deadline=None)
def test_the_largest_sizes_fit_and_one_more_does_not(hw, spec, batch, context, kv_format, chunk, placement):
    hw.precision.kv_cache = kv_format
    hw.max_prefill_chunk_size = chunk
    hw.memory.kv_cache_placement = placement
    fit = memory_fit(hw, spec, batch=batch, context=context)

    def fits(**sizes):
        asked = memory_fit(hw, spec, **sizes)
        return asked.fits and not (placement is Placement.L1 and asked.l1.over)

    assert fits(batch=batch, context=context) == (fit.largest_batch >= batch)
    assert not fits(batch=fit.largest_batch + 1, context=context)
    if fit.largest_batch:
        assert fits(batch=fit.largest_batch, context=context)
    if fit.largest_context:
        assert fit.largest_context % 32 == 0
        assert fits(batch=batch, context=fit.largest_context)
    if fit.largest_context < spec.max_context:
        assert not fits(batch=batch, context=fit.largest_context + 1)


@given(devices, models, st.integers(1, 64), st.integers(1, 131072), st.integers(0, 10**9), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_lines_add_up_to_the_memory(hw, spec, batch, context, trace_region, sharded):
    hw.trace_region_size = trace_region
    hw.memory.use_width_sharding = sharded
    fit = memory_fit(hw, spec, batch=batch, context=context)
    for lines, size in ((fit.lines(), hw.spec.chip.dram_size), (fit.l1.lines(), hw.l1_memory_size)):
        assert sum(line.bytes for line in lines) == size
        assert sum(line.share for line in lines) == pytest.approx(1)
    rows = {line.name: line.bytes for line in fit.lines()}
    assert rows.pop("free") == fit.free
    assert min(rows.values()) > 0
    reserved = (rows.pop(name) for name in ("prefill activations", "rotary tables", "rest of the reserve"))
    assert sum(reserved) == fit.reserve
    assert sum(rows.values()) == fit.used


@given(devices, models, st.integers(1, 32), st.integers(1, 65536), st.integers(0, 32), st.integers(0, 65536))
@settings(max_examples=100, deadline=None)
def test_more_users_or_a_longer_context_never_need_less(hw, spec, batch, context, more_users, more_tokens):
    less = memory_fit(hw, spec, batch=batch, context=context)
    more = memory_fit(hw, spec, batch=batch + more_users, context=context + more_tokens)
    assert more.used >= less.used
    assert more.l1.used >= less.l1.used
    assert (more.largest_batch, more.largest_context) <= (less.largest_batch, less.largest_context)


GROUPS = ("mlp_weights", "attention_weights", "kv_cache", "lm_head", "embedding")
GROUPS += ("activations", "attention_activations", "mlp_activations")


@given(devices, models, st.sampled_from(GROUPS), formats, formats)
@settings(max_examples=100, deadline=None)
def test_a_narrower_format_never_needs_more(hw, spec, group, one, other):
    needs = []
    for data in sorted((one, other), key=lambda data: data.tile_bytes):
        hw.precision = dataclasses.replace(hw.precision, **{group: data}, ff1_ff3=None)
        fit = memory_fit(hw, spec, batch=4, context=2048)
        needs.append((fit.used, fit.l1.used))
    assert needs[0][0] <= needs[1][0]
    assert needs[0][1] <= needs[1][1]
