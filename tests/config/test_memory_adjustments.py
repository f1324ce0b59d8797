# SPDX-License-Identifier: Apache-2.0
"""The computed prefill chunk, and what is said where DRAM does not hold a model."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest

import tt_transformers_v2 as api
from tt_transformers_v2.config.memory_adjustments import (
    CHUNK,
    LARGEST_CHUNK,
    NARROW,
    SMALLEST_CHUNK,
    Roomier,
    computed_chunk,
    dram_findings,
    shorter_chunk,
    smallest_device,
)
from tt_transformers_v2.config.model_rules import RuleEffect
from tt_transformers_v2.hardware import AutoHardwareConfig, PrecisionMode
from tt_transformers_v2.hardware.enums import DispatchCoreType
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf.footprint import activation_bytes_per_token, weight_bytes
from tt_transformers_v2.perf.memory import dram_left, memory_fit

# No table names them. Activations of prefill, 770.9 KiB per token, are most of what the wide one needs.
SMALL = ModelSpec.uniform(32000, 2048, 16, 16, 8192, num_kv_heads=8, name="small")
PASS, CHUNK_8K = ["device=n150", "model=llama1b"], f"{CHUNK}=8192"
BATCHED = ["workload.batch=32", "workload.prompt_length=100", "runtime.prefill=batched"]
WIDE = ModelSpec.uniform(32000, 1024, 1, 16, 131232, num_kv_heads=8, name="wide")


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


def test_what_a_chunk_was_computed_from_is_said():
    config = AutoHardwareConfig.from_device("N150")
    (said,) = computed_chunk(config, SMALL, ())
    assert said == RuleEffect("prefill-chunk-computed", "device.max_prefill_chunk_size", 65536, 4096)
    assert said.why == (
        "no published chunk for this model and device; activations take 52 KiB per token and may fill half of the "
        "10.4 GiB of DRAM that the weights leave free"
    )
    assert computed_chunk(config, SMALL, ()) == [], "it is that already"
    (said,) = computed_chunk(config, WIDE, ())
    assert " 771 KiB per token and may fill half of the 11.0 GiB of DRAM " in said.why


def test_a_lack_of_dram_is_said_as_none_left():
    (said,) = computed_chunk(with_room_for(-(10**6)), SMALL, ())
    assert " of the 0.0 GiB of DRAM that the weights leave free" in said.why


def test_a_typed_chunk_and_a_published_one_stay():
    config = AutoHardwareConfig.from_device("N150")
    published = dataclasses.replace(SMALL, _metadata={"name": "Llama-3.1-8B-Instruct"})
    assert computed_chunk(config, SMALL, {"device.max_prefill_chunk_size"}) == []
    assert computed_chunk(config, published, ()) == []
    assert config.max_prefill_chunk_size == 4096
    assert computed_chunk(config, SMALL, {"device.trace_region_size"})


LLAMA_8B = ModelSpec.uniform(128256, 4096, 32, 32, 14336, num_kv_heads=8, name="some 8B", max_context=131072)


def overflow(config, spec, batch=1, context=128, typed=(), mode=PrecisionMode.PERFORMANCE):
    found = dram_findings(config, spec, mode=mode, batch=batch, context=context, typed=typed)
    assert len(found) <= 1
    (finding,) = found or (None,)
    if finding and finding.id == "dram-narrow":
        assert str(finding.severity) == "warning"
        return None
    assert finding is None or (finding.id, str(finding.severity)) == ("dram-overflow", "error")
    return finding


def full(spec, chunk=4096, over=0, batch=1, context=128, device="N150"):
    """A device that is full to the byte, and `over` bytes more, with that prefill chunk."""
    config = AutoHardwareConfig.custom(device, max_prefill_chunk_size=chunk)
    config.trace_region_size += memory_fit(config, spec, batch=batch, context=context).free + over
    return config


def test_dram_may_be_full_to_the_byte():
    assert overflow(full(LLAMA_8B), LLAMA_8B) is None
    assert overflow(full(LLAMA_8B, over=1), LLAMA_8B)


@pytest.mark.parametrize(("short", "ids"), [(0, []), (1, ["dram-narrow"])])
def test_less_than_five_percent_free_is_narrow(short, ids):
    config = full(LLAMA_8B)
    config.trace_region_size -= math.ceil(NARROW * config.spec.chip.dram_size) - short
    found = dram_findings(config, LLAMA_8B, mode=PrecisionMode.PERFORMANCE, batch=1, context=128)
    assert [finding.id for finding in found] == ids
    assert all("GiB of each chip are free, 5.0 %." in finding.what for finding in found)


def test_prompts_of_one_pass_need_memory_together():
    """32 prompts of 100 tokens are padded to 128 each: 4096 tokens, as one prompt of 4096."""
    one, pass_of_32, chunked = (
        api.predict(*PASS, *more).memory.activations
        for more in ([CHUNK_8K, "workload.context=4096"], [CHUNK_8K, *BATCHED], [f"{CHUNK}=2048", *BATCHED])
    )
    assert one == pass_of_32 == 2 * chunked
    assert api.predict(*PASS, CHUNK_8K, *BATCHED, "workload.prefill_users=16").memory.activations == one // 2
    assert (
        api.predict(*PASS, CHUNK_8K, "workload.batch=32", "workload.prompt_length=100").memory.activations == one // 32
    )


def test_dram_may_be_full_to_the_byte_of_a_pass():
    config = full(LLAMA_8B)
    asked = {"mode": PrecisionMode.PERFORMANCE, "batch": 1, "context": 128}
    assert dram_findings(config, LLAMA_8B, **asked)[0].id == "dram-narrow"
    (over,) = dram_findings(config, LLAMA_8B, **asked, batched=4096)
    assert over.id == "dram-overflow"


def shortened(config, spec, context, batch=1, typed=()):
    return shorter_chunk(config, spec, batch=batch, context=context, typed=typed)


@pytest.mark.parametrize(
    ("fits", "configured", "chunk"),
    [
        (8192, 8192, 8192),
        (8192, 65536, 8192),
        (8192, 16384 - 32, 8192),
        (SMALLEST_CHUNK, 65536, SMALLEST_CHUNK),
        (8192, 4096, 4096),
    ],
)
def test_a_chunk_shrinks_to_the_longest_that_fits(fits, configured, chunk):
    config = full(WIDE, chunk=fits, context=LARGEST_CHUNK)
    config.max_prefill_chunk_size = configured
    said = shortened(config, WIDE, LARGEST_CHUNK)
    assert config.max_prefill_chunk_size == chunk
    assert said == ([RuleEffect("prefill-chunk-fits", CHUNK, chunk, configured)] if chunk != configured else [])


def test_a_chunk_shrinks_no_further_than_the_smallest_and_a_typed_one_not_at_all():
    config = full(WIDE, chunk=SMALLEST_CHUNK, over=1, context=LARGEST_CHUNK)
    config.max_prefill_chunk_size = 65536
    assert shortened(config, WIDE, LARGEST_CHUNK, typed={CHUNK}) == []
    assert config.max_prefill_chunk_size == 65536
    shortened(config, WIDE, LARGEST_CHUNK)
    assert config.max_prefill_chunk_size == SMALLEST_CHUNK


def test_a_chunk_does_not_shrink_where_a_card_ran_out_with_as_much():
    """Llama-3.1-8B with 65536 tokens in chunks of 4096 on an n150; 62259 are 95 % of them."""
    for context, chunk in ((62259, 2048), (62260, 4096)):
        config = full(LLAMA_8B, chunk=2048, context=context)
        config.max_prefill_chunk_size = 4096
        shortened(config, LLAMA_8B, context)
        assert config.max_prefill_chunk_size == chunk


def test_users_are_those_of_the_fullest_group():
    config = full(SMALL, batch=3, context=4096, device="N300")
    config.parallelism.tensor_parallel_size, config.parallelism.data_parallel_size = 1, 2
    config.trace_region_size += memory_fit(config, SMALL, batch=3, context=4096).free
    assert overflow(config, SMALL, batch=6, context=4096) is None
    assert overflow(config, SMALL, batch=7, context=4096)


def test_an_overflow_says_what_needs_how_much():
    config = AutoHardwareConfig.from_device("N150")
    found = overflow(config, LLAMA_8B, batch=16, context=8192)
    assert found.what == "some 8B does not fit on N150: each chip is 4.25 GiB short."
    assert found.why == (
        "It needs 15.31 of 11.06 GiB (weights 6.76, KV cache 8.50, trace region 0.05; reserve 0.94 including prefill "
        "0.36). On a card Llama-3.1-8B ran out of DRAM with 65536 tokens (tenstorrent/vllm issue 285 and PR 289)."
    )


@pytest.mark.parametrize(
    ("chunk", "fits"),
    [
        (SMALLEST_CHUNK, SMALLEST_CHUNK),
        (2 * SMALLEST_CHUNK, 2 * SMALLEST_CHUNK),
        (4 * SMALLEST_CHUNK - 32, 2 * SMALLEST_CHUNK),
        (LARGEST_CHUNK // 2, LARGEST_CHUNK // 2),
    ],
)
def test_the_longest_chunk_that_fits_is_named(chunk, fits):
    """Each time one byte is missing for the configured chunk, which is twice as long or less."""
    config = full(WIDE, chunk=fits, context=LARGEST_CHUNK)
    config.max_prefill_chunk_size = 2 * fits if chunk == fits else chunk
    found = overflow(config, WIDE, context=LARGEST_CHUNK)
    assert found.fix.startswith(f"It fits with device.max_prefill_chunk_size={fits}. ")


def test_no_chunk_below_the_smallest_is_advised():
    config = full(WIDE, chunk=SMALLEST_CHUNK, over=1, context=LARGEST_CHUNK)
    config.max_prefill_chunk_size = 2 * SMALLEST_CHUNK
    assert "max_prefill_chunk_size" not in overflow(config, WIDE, context=LARGEST_CHUNK).fix


def test_a_chunk_is_tried_for_the_prompt_and_not_for_more():
    """A prompt of 1024 tokens is computed in one chunk of 1024, however long a chunk may be."""
    config = full(WIDE, chunk=LARGEST_CHUNK, over=1, context=1024)
    assert "max_prefill_chunk_size" not in overflow(config, WIDE, context=1024).fix


def test_as_many_users_as_fit_are_advised_then_as_many_tokens_then_nothing():
    users = overflow(full(LLAMA_8B, batch=5, context=8192), LLAMA_8B, batch=6, context=8192)
    assert "At most 5 users per group with 8192 tokens each fit. " in users.fix
    tokens = overflow(full(LLAMA_8B, 2048, context=49152), LLAMA_8B, context=49184)
    assert "At most 49152 tokens per user fit. " in tokens.fix
    nothing = overflow(full(LLAMA_8B, over=8 << 20, context=32), LLAMA_8B, context=32)
    assert nothing.fix.startswith("The device with the least DRAM that it fits on is device=")


def with_cache(format, missing, batch=32, context=2048):
    """An n150 for 32 users whose cache lacks `missing` bytes even in `format`."""
    config = AutoHardwareConfig.custom("N150", precision={"kv_cache": format})
    config.trace_region_size += memory_fit(config, SMALL, batch=batch, context=context).free + missing
    return config


@pytest.mark.parametrize(
    ("asked", "room_for", "missing", "advised"),
    [
        ("BF16", "BFP8", 0, "It fits with precision.kv_cache=BFP8. "),
        ("BF16", "BFP8", 1, "It fits with precision.kv_cache=BFP4. "),
        ("BF16", "BFP4", 1, ""),
        ("BFP8", "BFP4", 0, "It fits with precision.kv_cache=BFP4. "),
        ("BFP8", "BFP4", 1, ""),
        ("BFP4", "BFP4", 1, ""),
    ],
)
def test_the_widest_narrower_cache_that_fits_is_advised_beside_fewer_users(asked, room_for, missing, advised):
    config = with_cache(room_for, missing)
    config.precision = dataclasses.replace(config.precision, kv_cache=asked)
    fix = overflow(config, SMALL, batch=32, context=2048).fix
    assert fix.startswith(f"{advised}At most ")
    assert ("kv_cache" in fix) is bool(advised)


def test_a_cache_as_wide_as_one_that_ran_out_is_not_advised():
    """By the map 65536 tokens of BFP8 fit in chunks of 1024; a card ran out."""
    config = AutoHardwareConfig.custom("N150", max_prefill_chunk_size=1024, precision={"kv_cache": "BF16"})
    assert overflow(config, LLAMA_8B, context=65536).fix.startswith("It fits with precision.kv_cache=BFP4. ")


def test_a_device_where_a_card_ran_out_with_as_much_is_not_advised():
    """An n150 would hold 65536 tokens in chunks of 1024 by the map."""
    asked = AutoHardwareConfig.custom("P100", max_prefill_chunk_size=1024)
    assert advised(asked, context=62240, typed={CHUNK}) == ("n150", ())
    assert advised(asked, context=65536, typed={CHUNK}) == ("n300", ())


def test_the_smallest_device_is_that_with_the_least_dram_and_first_in_the_alphabet():
    """12 GiB of an n150 are too little, two of 12 an n300; a p100 has 28."""
    assert overflow(AutoHardwareConfig.from_device("N150"), LLAMA_8B, batch=16, context=8192).fix.endswith(
        "The device with the least DRAM that it fits on is device=n300."
    )
    asked = AutoHardwareConfig.from_device("P100")
    fitting = smallest_device(asked, LLAMA_8B, mode=PrecisionMode.PERFORMANCE, batch=1, context=128)
    assert fitting == Roomier(12 << 30, "n150", ())


def test_the_device_that_was_asked_for_is_not_advised():
    asked = AutoHardwareConfig.from_device("N150")
    fitting = smallest_device(asked, LLAMA_8B, mode=PrecisionMode.PERFORMANCE, batch=1, context=128)
    assert fitting == Roomier(24 << 30, "n300", ())


TRACE = "device.trace_region_size"


def wider(device="N150", **formats):
    return AutoHardwareConfig.custom(device, precision=formats)


def advised(asked, spec=LLAMA_8B, *, mode=PrecisionMode.PERFORMANCE, batch=1, context=128, typed=()):
    fitting = smallest_device(asked, spec, mode=mode, batch=batch, context=context, typed=typed)
    return fitting and (fitting.option, fitting.without)


def test_another_device_is_to_hold_the_formats_asked_for_in_every_layer():
    assert advised(wider("P100")) == ("n150", ())
    assert advised(wider("P100", mlp_weights="BF16", ff1_ff3="BF16", ff2="BF16")) == ("n300", ())
    own = AutoHardwareConfig.custom(
        "P100", layers=[{"select": "all", "precision": {"mlp_weights": "BF16"}}], num_layers=LLAMA_8B.num_layers
    )
    assert advised(own) == ("n300", ())


def test_another_device_is_to_hold_the_users_of_its_fullest_group():
    """Nine heads are not split: each of two chips of an n300 has a group of half the users, here room for just one."""
    nine = ModelSpec.uniform(32000, 2304, 4, 9, 4096, num_kv_heads=9, head_dim=256, name="nine heads")
    asked = wider("P150")
    chip = AutoHardwareConfig.custom("N300", parallelism={"tensor_parallel_size": 1, "data_parallel_size": 2})
    chip.max_prefill_chunk_size = asked.system.max_prefill_chunk_size = SMALLEST_CHUNK
    asked.system.trace_region_size += memory_fit(chip, nine, batch=1, context=8192).free
    fitting = [advised(asked, nine, batch=users, context=8192, typed=[TRACE, CHUNK])[0] for users in (1, 2, 3)]
    assert fitting == ["n150", "n300", "p100"]


@pytest.mark.parametrize(
    ("typed", "value", "option"),
    [
        (TRACE, 50_000_000, "n150"),
        (TRACE, 6 << 30, "n300"),
        ("device.chip.dram_size", 30 << 30, "n150"),
        ("device.dispatch_core_type", "ETH", "n150"),
        ("memory.weights_placement", "L1", "n150"),
    ],
)
def test_another_device_has_what_was_typed(typed, value, option):
    asked = wider("P150")
    section, _, names = typed.partition(".")
    *parents, name = names.split(".")
    owner = asked.system if section == "device" else asked.memory
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, value)
    assert advised(asked, typed={typed})[0] == option


def test_a_device_that_cannot_dispatch_as_typed_is_passed_over():
    """A p100 has no dispatch from ETH cores."""
    asked = wider("N300", mlp_weights="BF16", ff1_ff3="BF16", ff2="BF16", attention_weights="BF16")
    assert advised(asked, batch=32, context=2048) == ("p100", ())
    asked.system.dispatch_core_type = DispatchCoreType.ETH
    assert advised(asked, batch=32, context=2048, typed={"device.dispatch_core_type"}) == ("p150", ())


SPLIT = ("parallelism.data_parallel_size", "parallelism.tensor_parallel_size")


def test_a_typed_split_is_kept_where_the_chips_can_be_shared_out_so():
    asked = wider("T3K")
    asked.parallelism.tensor_parallel_size, asked.parallelism.data_parallel_size = 2, 1
    assert advised(asked, context=131072, typed=set(SPLIT)) == ("n300", ())
    asked.parallelism.data_parallel_size = 4
    assert advised(asked, context=131072, typed=set(SPLIT)) == ("n300", SPLIT)


def test_in_accuracy_mode_too_the_cache_takes_dram():
    """Its preset has the cache in L1, where a device one byte too small would seem to hold the model."""
    asked = wider("P100")
    asked.system = copy.deepcopy(asked.system)
    tight = full(LLAMA_8B)
    asked.system.trace_region_size = tight.trace_region_size + 1
    assert advised(asked, typed=[TRACE]) == ("n300", ())
    assert advised(asked, typed=[TRACE], mode=PrecisionMode.ACCURACY) == ("n300", ())


def test_where_no_device_holds_it_narrower_formats_are_advised():
    huge = ModelSpec.uniform(128256, 16384, 200, 128, 131072, num_kv_heads=8, name="huge")
    found = overflow(AutoHardwareConfig.from_device("N150"), huge)
    assert found.fix == "It does not fit on any known device: use narrower formats."


def test_typed_values_that_another_device_cannot_keep_are_named():
    asked = wider("P100")
    asked.system.sources["note"] = "mine"
    found = overflow(asked, LLAMA_8B, batch=32, context=32768, typed={*SPLIT, "memory", "device.sources.note"})
    assert found.fix.endswith(f"device=t3k, without {' and '.join(SPLIT)}.")
