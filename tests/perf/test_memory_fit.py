# SPDX-License-Identifier: Apache-2.0
"""What fits into a chip's DRAM, and what is said when it does not."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_cases import make_device, make_model

from tt_transformers_v2.hardware.schema import DataFormat
from tt_transformers_v2.perf import memory_fit

GIB = 1 << 30


def test_llama_70b_does_not_fit_n150_and_says_by_how_much():
    fit = memory_fit(make_device("N150"), make_model("Llama-3.1-70B"), context=2048)
    excess = (fit.used - fit.available) / GIB
    assert not fit.fits
    assert excess == pytest.approx(42.2, abs=0.3)
    assert f"{excess:.2f} GiB more than the 11.40 GiB available" in fit.summary
    assert "use more chips" in fit.summary
    assert (fit.largest_batch, fit.largest_context) == (0, 0)


def test_llama_70b_fits_t3k():
    fit = memory_fit(make_device("T3K"), make_model("Llama-3.1-70B"), context=131072)
    assert fit.fits
    assert "fits" in fit.summary


def test_bytes_of_llama_8b():
    """KV cache: 2 x 32 layers x 8 heads x 128 x 1024 tokens in BFP8; FF1, FF3 in BFP4; embedding in BF16."""
    spec = make_model("Llama-3.1-8B")
    fit = memory_fit(make_device("N150"), spec, batch=1, context=1024)
    assert fit.kv_cache == 2 * 32 * 8 * 128 * 1024 * 1088 // 1024
    assert fit.weights["ff1_ff3"] == 2 * 32 * 4096 * 14336 * 576 // 1024
    assert fit.weights["embedding"] == 128256 * 4096 * 2
    assert fit.weights["lm_head"] == 128256 * 4096 * 1088 // 1024


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


def test_pipeline_stages_split_layers():
    hw = make_device("T3K", tensor_parallel=4)
    whole = memory_fit(hw, make_model("Llama-3.1-70B"), context=1024)
    hw.parallelism.pipeline_parallel_size = 2
    half = memory_fit(hw, make_model("Llama-3.1-70B"), context=1024)
    assert 2 * half.weights["ff2"] == whole.weights["ff2"]
    assert 2 * half.kv_cache == whole.kv_cache


@given(
    st.sampled_from(["N150", "N300", "T3K", "P150"]),
    st.sampled_from(["Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B"]),
    st.integers(1, 64),
    st.integers(1, 131072),
    st.sampled_from(list(DataFormat)),
)
@settings(max_examples=80, deadline=None)
def test_the_largest_sizes_fit_and_one_more_does_not(name, model, batch, context, kv_format):
    hw, spec = make_device(name), make_model(model)
    hw.precision.kv_cache = kv_format
    fit = memory_fit(hw, spec, batch=batch, context=context)
    assert fit.fits == (fit.largest_batch >= batch)
    assert not memory_fit(hw, spec, batch=fit.largest_batch + 1, context=context).fits
    if fit.largest_batch:
        assert memory_fit(hw, spec, batch=fit.largest_batch, context=context).fits
    if fit.largest_context:
        assert memory_fit(hw, spec, batch=batch, context=fit.largest_context).fits
    if fit.largest_context < spec.max_context:
        assert not memory_fit(hw, spec, batch=batch, context=fit.largest_context + 1).fits
