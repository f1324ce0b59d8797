# SPDX-License-Identifier: Apache-2.0
"""The memory map against what ran, and what ran out of memory, on cards; and what is said where it does not fit."""

from __future__ import annotations

import functools

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.model_rules import base_name
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.perf import memory_fit
from tt_transformers_v2.perf.memory import RESERVE, UNNAMED


def experiment(*overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


def map_of(*overrides, batch=1, context=1024):
    """tt_transformers keeps the KV cache in DRAM, whatever the seed's accuracy mode would like."""
    asked = experiment("memory.kv_cache_placement=DRAM", *overrides)
    return memory_fit(asked.hardware, asked.spec, batch=batch, context=context)


MODES = ("precision=accuracy", "precision=performance")
DEMO = {"batch": 32, "context": 1024}  # the cache of tt_transformers' demo: 1024 pages of 32 tokens


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("model", "device", "workload"),
    [
        ("llama8b", "n150", DEMO),
        ("llama3b", "n150", DEMO),
        ("phi4", "n300", DEMO),
        ("qwen2_5_32b", "t3k", DEMO),
        ("llama70b", "t3k", DEMO),
        ("llama70b", "t3k", {"batch": 1, "context": 131072}),
    ],
)
def test_what_tt_transformers_runs_fits(model, device, workload, mode):
    """Its README and PERF.md: chunks of 4096 (8B on an n150), 8192 (3B) and 32768 tokens (70B) included."""
    assert map_of(f"model={model}", f"device={device}", mode, **workload).fits


# Releases before June 2026 took the trace region, 25 MB for Llama-3.1-8B, from each of 12 banks.
OLD_TRACE_REGION = f"device.trace_region_size={12 * 25_000_000}"


@pytest.mark.parametrize(
    ("model", "device"),
    [(model, device) for model in ("llama1b", "llama3b", "llama8b") for device in ("n150", "n300", "t3k")]
    + [("llama70b", "t3k")],
)
def test_the_64k_rows_of_perf_md_fit(model, device):
    """But one: a server of Llama-3.1-8B with as many tokens on an n150 ran out (conf/measurements/memory.csv)."""
    if (model, device) == ("llama8b", "n150"):
        assert overflow("model=llama8b", "device=n150", "workload.context=65536")
        return
    old = [OLD_TRACE_REGION] if device == "n150" else []
    assert map_of(f"model={model}", f"device={device}", *old, context=65536).fits


def test_llama_8b_on_an_n150_has_no_room_for_twice_that():
    assert not map_of("model=llama8b", "device=n150", context=131072).fits


def test_the_cache_that_ran_out_of_dram_in_tt_metal_issue_21904():
    """Llama-3.1-8B, accuracy mode, n150: keys or values of a layer, 1034 pages of 64 tokens, are 71999488 B.

    44 of the 64 had been allocated, and the 45th or 46th failed. Between what 46 and what 44 would leave lies what was
    taken by things that the map does not name.
    """
    fit = map_of("model=llama8b", "device=n150", "precision=accuracy", OLD_TRACE_REGION, context=1034 * 64)
    one = 71_999_488
    assert fit.kv_cache == 64 * one
    assert not fit.fits
    unnamed = [fit.dram_size - (fit.used - fit.kv_cache) - number * one for number in (46, 44)]
    assert 0 < unnamed[0] < unnamed[1] < UNNAMED * fit.dram_size


@pytest.mark.parametrize(("data", "runs"), [("BFP8", True), ("BF16", False)])
def test_phi_4_on_an_n300_takes_bfp8_attention(data, runs):
    """tt-metal PR 47352: accuracy mode with BF16 attention and cache runs out of DRAM, BFP8 runs."""
    formats = (f"precision.attention_weights={data}", f"precision.kv_cache={data}")
    assert map_of("model=phi4", "device=n300", "precision=accuracy", *formats, **DEMO).fits is runs


@pytest.mark.parametrize("device", ["n150", "n300"])
def test_llama_70b_fits_neither_one_nor_two_wormhole_chips(device):
    assert not map_of("model=llama70b", f"device={device}", context=128).fits


@functools.cache
def options_by_name():
    """Model option by the name the published tables use."""
    models = (option for option in groups()["model"] if option != "hf")
    return {base_name(compose([f"model={option}"])["model"]["name"]).lower(): option for option in models}


CHUNKS = [
    (name, device, chunk)
    for name, row in read_yaml("rules/prefill_chunks.yaml").items()
    for device, chunk in row.items()
    if chunk and base_name(name).lower() in options_by_name()
]


# The table repeats Llama-3.1-8B's row for a model of twice its size, and nobody has shown it to run.
COPIED_ROW = ("DeepSeek-R1-Distill-Qwen-14B", "N300")


def test_the_activations_of_the_published_chunks_fit():
    """One prompt of a chunk's length, wherever weights and cache leave room for any prompt of it."""
    compared = 0
    for name, device, chunk in CHUNKS:
        asked = (f"model={options_by_name()[base_name(name).lower()]}", f"device={device}")
        longest = experiment(*asked).spec.max_context
        fit = map_of(*asked, context=min(chunk, longest))
        if fit.used <= (1 - RESERVE) * fit.dram_size and (name, device) != COPIED_ROW:
            compared += 1
            assert fit.fits, (name, device, fit.summary)
    assert compared > 60


def overflow(*overrides):
    (found,) = experiment(*overrides).errors
    assert found.id == "dram-overflow"
    return found


def test_an_overflow_says_what_is_needed_and_the_smallest_device_for_it():
    found = overflow("model=llama70b", "device=n150")
    assert "GiB short" in found.what
    for part in ("weights", "KV cache", "trace region", "including prefill"):
        assert f"{part} " in found.why
    assert found.fix == "The device with the least DRAM that it fits on is device=p150x2."


@pytest.mark.parametrize(
    ("asked", "advice", "fitting"),
    [
        (
            ("batch=32", "context=8192"),
            "At most 7 users per group with 8192 tokens each fit. ",
            ("batch=7", "context=8192"),
        ),
        (("batch=1", "context=131072"), "At most 62240 tokens per user fit. ", ("batch=1", "context=62240")),
    ],
)
def test_an_overflow_says_what_would_fit_and_that_does(asked, advice, fitting):
    assert overflow("model=llama8b", *(f"workload.{word}" for word in asked)).fix.startswith(advice)
    assert not experiment("model=llama8b", *(f"workload.{word}" for word in fitting)).errors


def test_an_overflow_by_the_prefill_chunk_names_one_that_fits():
    asked = ("model=llama1b", "workload.context=131072", "workload.batch=4")
    assert (
        "It fits with device.max_prefill_chunk_size=16384."
        in overflow(*asked, "device.max_prefill_chunk_size=131072").fix
    )
    assert not experiment(*asked, "device.max_prefill_chunk_size=16384").errors


def test_the_smallest_device_holds_the_formats_that_were_typed():
    """In its own presets Llama-3.1-8B fits an n150."""
    assert not experiment("model=llama8b").errors
    assert "device=n300" in overflow("model=llama8b", "precision.mlp_weights=BF16").fix
