# SPDX-License-Identifier: Apache-2.0
"""Physics of the speed prediction: what must never happen, and what the published rows teach."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perf_cases import CALIBRATION, make_device, make_model

from tt_transformers_v2.calibrate.measured_rows import load_calibration
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.layers import apply_layers, layer_entry
from tt_transformers_v2.hardware.enums import Arch, DataFormat, MathFidelity, Prefill, Stack
from tt_transformers_v2.perf import Calibration, Performance, predict_performance
from tt_transformers_v2.perf.collective_times import all_reduce_us
from tt_transformers_v2.perf.memory import weight_bytes
from tt_transformers_v2.perf.ops import padded_prompt
from tt_transformers_v2.prediction.questions import ask

DEVICES = st.sampled_from(["N150", "N300", "T3K", "P150"])
MODEL_NAMES = ["Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B", "Llama-3.1-70B"]
MODELS = st.sampled_from(MODEL_NAMES)
PROMPTS = st.sampled_from([1, 128, 1000, 5000, 65536])
BATCHES = st.sampled_from([1, 8, 32, 64])
GROUPS = st.sampled_from(["ff1_ff3", "ff2", "wqkv", "wo", "lm_head", "kv_cache"])
FORMATS = [DataFormat.BFP4, DataFormat.BFP8, DataFormat.BF16]
OP_GROUPS = ["mlp", "attention", "sdpa", "lm_head"]


def predict(device, model, prompt=128, batch=1, calibration=CALIBRATION) -> Performance:
    return predict_performance(device, make_model(model), calibration, prompt_length=prompt, batch=batch)


def with_readers(count: int) -> Calibration:
    archs = dict(CALIBRATION.archs)
    archs[Arch.blackhole] = dataclasses.replace(archs[Arch.blackhole], readers_per_bank=count)
    return dataclasses.replace(CALIBRATION, archs=archs)


def assert_not_slower(fast: Performance, slow: Performance) -> None:
    assert fast.decode_tokens_per_s_per_user >= slow.decode_tokens_per_s_per_user * (1 - 1e-12)
    assert fast.ttft_ms <= slow.ttft_ms * (1 + 1e-12)


@given(DEVICES, MODELS, PROMPTS, BATCHES, st.floats(1.0, 4.0))
@settings(max_examples=60, deadline=None)
def test_more_bandwidth_is_never_slower(name, model, prompt, batch, factor):
    more = make_device(name)
    more.dram_bandwidth *= factor
    assert_not_slower(predict(more, model, prompt, batch), predict(make_device(name), model, prompt, batch))


@given(DEVICES, MODELS, PROMPTS, BATCHES, GROUPS)
@settings(max_examples=60, deadline=None)
def test_a_smaller_format_is_never_slower(name, model, prompt, batch, group):
    results = []
    for fmt in FORMATS:
        hw = make_device(name)
        setattr(hw.precision, group, fmt)
        results.append(predict(hw, model, prompt, batch))
    assert_not_slower(results[0], results[1])
    assert_not_slower(results[1], results[2])


@given(DEVICES, MODELS, PROMPTS, BATCHES, st.sampled_from(OP_GROUPS))
@settings(max_examples=60, deadline=None)
def test_fewer_fidelity_phases_are_never_slower(name, model, prompt, batch, group):
    results = []
    for fidelity in MathFidelity:
        hw = make_device(name)
        hw.compute[group].math_fidelity = fidelity
        results.append(predict(hw, model, prompt, batch))
    for fast, slow in pairwise(results):
        assert_not_slower(fast, slow)


@given(DEVICES, MODELS, PROMPTS, BATCHES)
@settings(max_examples=40, deadline=None)
def test_longer_context_and_more_users_never_speed_up_a_user(name, model, prompt, batch):
    hw = make_device(name)
    base, users = predict(hw, model, prompt, batch), predict(hw, model, prompt, 2 * batch)
    longer = predict(hw, model, 2 * prompt, batch)
    assert users.decode_tokens_per_s_per_user <= base.decode_tokens_per_s_per_user
    assert longer.decode_tokens_per_s_per_user <= base.decode_tokens_per_s_per_user
    assert longer.ttft_ms >= base.ttft_ms


@given(DEVICES, MODELS, PROMPTS, BATCHES)
@settings(max_examples=40, deadline=None)
def test_no_rate_exceeds_the_chip_and_shares_add_up(name, model, prompt, batch):
    result = predict(make_device(name), model, prompt, batch)
    assert sum(result.shares.values()) == pytest.approx(1)
    assert sum(result.prefill_shares.values()) == pytest.approx(1)
    assert sum(t.share for t in result.ops) == pytest.approx(1)
    assert sum(t.total_us for t in result.ops) / 1e3 == pytest.approx(result.decode_ms)
    assert {t.bound for t in (*result.ops, *result.prefill_ops)} <= {"DRAM", "FLOP", "BOTH", "SLOW", "HOST"}
    for t in (*result.ops, *result.prefill_ops):
        assert t.dram_share <= 1
        assert t.flop_share <= 1
        assert t.us > 0


def test_decode_reads_every_weight_once():
    """8B on one chip: all matrices and the LM head, in the tile formats of the performance mode."""
    spec = make_model("Llama-3.1-8B")
    lines = {line.op.name: line for line in predict(make_device("N150"), "Llama-3.1-8B").ops}
    read = sum(line.op.tiles * 1024 * line.count for line in lines.values())
    norms = spec.hidden_dim * (2 * spec.num_layers + 1)
    assert read == spec.num_parameters - spec.vocab_size * spec.hidden_dim - norms
    ops = {name: line.op for name, line in lines.items()}
    # 448 tile columns over 12 banks are stored as 38 on each.
    assert ops["ff1"].weight_bytes == 128 * 38 * 12 * 576
    assert ops["ff2"].weight_bytes == 448 * 11 * 12 * 1088
    assert ops["wqkv"].compute_group == "qkv_decode"
    assert ops["sdpa"].kv_bytes == 2 * 8 * 128 * 128 * 1088 / 1024


def test_bfp4_mlps_buy_much_on_one_chip_and_little_on_eight():
    """On N150 the 8B's time is its weights; on T3K collectives and fixed costs leave them a third."""
    gains = {}
    for name in ("N150", "T3K"):
        fast = predict(make_device(name), "Llama-3.1-8B")
        slow = predict(make_device(name, ff1_ff3="BFP8", mlp_fidelity="HiFi2"), "Llama-3.1-8B")
        gains[name] = fast.decode_tokens_per_s_per_user / slow.decode_tokens_per_s_per_user
        if name == "N150":
            assert fast.bound == "DRAM"
            assert fast.shares["weights"] > 0.7
        else:
            assert fast.shares["weights"] < 0.35
            assert fast.shares["collectives"] + fast.shares["overhead"] > 0.65
    assert gains["N150"] > 1.10
    assert gains["T3K"] < 1.06


def test_wo_is_fused_with_its_all_gather_on_eight_chips_where_the_hidden_size_allows():
    """tt_transformers: hidden_dim / 32 / 8 a multiple of 8; the 3B's 3072 is not, the 8B's 4096 is."""
    names = {model: {line.op.name for line in predict(make_device("T3K"), model).ops} for model in MODEL_NAMES}
    assert "all_gather_attention" in names["Llama-3.1-8B"]
    assert "all_reduce_attention" in names["Llama-3.2-3B"]
    on_two = {line.op.name for line in predict(make_device("N300"), "Llama-3.1-8B").ops}
    assert "all_reduce_attention" in on_two


def test_fidelity_pays_on_blackhole_only_with_one_reader_per_bank():
    """Published: P150 with one reader per bank gains 28 % by LoFi, with two none; Wormhole none."""

    def gain(name: str, readers: int) -> float:
        speeds = []
        for fidelity in (MathFidelity.LoFi, MathFidelity.HiFi2):
            hw = make_device(name, ff1_ff3="BFP8")
            for group in ("mlp", "ff1_ff3", "ff2", "attention", "lm_head"):
                hw.compute[group].math_fidelity = fidelity
            speeds.append(predict(hw, "Llama-3.1-8B", calibration=with_readers(readers)))
        return speeds[0].decode_tokens_per_s_per_user / speeds[1].decode_tokens_per_s_per_user

    assert gain("P150", 1) > 1.15
    assert gain("P150", 2) < 1.02
    assert gain("N150", 1) < 1.02


def test_high_fidelity_turns_a_decode_matmul_from_dram_to_flop_bound():
    hw = make_device("N150", ff1_ff3="BFP8", mlp_fidelity="HiFi4")
    bounds = {t.op.name: t.bound for t in predict(hw, "Llama-3.1-8B").ops}
    assert bounds["ff1"] == "FLOP"
    assert bounds["ff2"] == "DRAM"
    assert bounds["sampling_and_host"] == "HOST"


def test_data_parallel_groups_add_throughput_not_speed():
    one = predict(make_device("T3K", tensor_parallel=2), "Llama-3.1-8B", batch=4)
    four = predict(make_device("T3K", tensor_parallel=2, data_parallel=4), "Llama-3.1-8B", batch=4)
    per_group = CALIBRATION.of(Arch.wormhole_b0).group_overhead_ms
    assert four.decode_ms == pytest.approx(one.decode_ms + 3 * per_group)
    assert four.ttft_ms == one.ttft_ms
    assert four.tokens_per_s == pytest.approx(16 * four.decode_tokens_per_s_per_user)
    assert one.tokens_per_s == pytest.approx(4 * one.decode_tokens_per_s_per_user)


def test_traced_prefill_and_smaller_chunks():
    archs = {a: dataclasses.replace(c, prefill=Prefill.traced) for a, c in CALIBRATION.archs.items()}
    traced = dataclasses.replace(CALIBRATION, archs=archs)
    hw = make_device("T3K")
    assert predict(hw, "Llama-3.1-8B", calibration=traced).ttft_ms < predict(hw, "Llama-3.1-8B").ttft_ms / 1.5
    chunked = make_device("T3K")
    chunked.max_prefill_chunk_size = 2048
    assert predict(chunked, "Llama-3.1-8B", 16384).ttft_ms > predict(hw, "Llama-3.1-8B", 16384).ttft_ms


def test_the_last_chunk_of_a_prompt_is_as_long_as_what_is_left():
    """Five prompts of 1024 tokens in passes of 4096: one of 4096 tokens and one of 1024."""

    def pass_ms(users):
        archs = {a: dataclasses.replace(c, prefill=Prefill.batched) for a, c in load_calibration().archs.items()}
        hw, calibration = make_device("N150"), dataclasses.replace(load_calibration(), archs=archs)
        hw.max_prefill_chunk_size = 4096
        return predict(hw, "Llama-3.1-8B", 1024, users, calibration).ttft_ms * users

    assert pass_ms(4) < pass_ms(5) < pass_ms(8)
    assert pass_ms(5) - pass_ms(4) == pytest.approx((pass_ms(8) - pass_ms(4)) / 4, rel=0.5)


@pytest.mark.parametrize("device", ["N150", "N300", "T3K", "P150"])
@pytest.mark.parametrize("prompt", [128, 1024, 8192])
def test_a_trace_is_never_slower(device, prompt):
    def ttft(prefill):
        archs = {a: dataclasses.replace(c, prefill=prefill) for a, c in load_calibration().archs.items()}
        calibration = dataclasses.replace(load_calibration(), archs=archs)
        return predict(make_device(device), "Llama-3.1-8B", prompt, calibration=calibration).ttft_ms

    assert ttft(Prefill.traced) <= ttft(Prefill.untraced)


def test_under_a_server_requests_that_arrive_together_wait_for_all_prompts():
    def ttft(batch, **switches):
        archs = {a: dataclasses.replace(c, **switches) for a, c in load_calibration().archs.items()}
        calibration = dataclasses.replace(load_calibration(), archs=archs)
        return predict(make_device("N300"), "Llama-3.1-8B", batch=batch, calibration=calibration).ttft_ms

    assert ttft(1) == ttft(32)
    assert ttft(32, stack=Stack.vllm) == pytest.approx(32 * ttft(1, stack=Stack.vllm))
    share = ttft(32, prefill=Prefill.batched)  # a user's of the pass; a server adds its overhead to the pass
    assert ttft(32, prefill=Prefill.batched, stack=Stack.vllm) == pytest.approx(32 * share, rel=0.02)


@pytest.mark.parametrize(
    ("chips", "kib", "ring", "expected"),
    [
        (2, 8, False, 9.5),
        (2, 256, False, 20.8),
        (4, 8, False, 19.2),
        (4, 256, False, 33.8),
        (8, 1024, True, 54.5),
    ],
)
def test_blackhole_all_reduce_goes_through_its_table(chips, kib, ring, expected):
    us = all_reduce_us(kib * 1024, chips, ring, CALIBRATION.of(Arch.blackhole))
    assert us == pytest.approx(expected, rel=0.06)


def test_what_the_form_does_not_cover_is_said():
    hw = make_device("T3K")
    hw.spec.mesh_shape = [2, 4]
    spec = dataclasses.replace(make_model("Llama-3.1-8B"), num_kv_heads=4)
    result = predict_performance(hw, spec, CALIBRATION, prompt_length=128)
    assert any("2-D mesh" in note for note in result.notes)
    assert any("replicated" in note for note in result.notes)
    assert result.basis == "predicted (roofline + overheads, calibration tt_metal_2025)"


@pytest.mark.parametrize(("length", "computed"), [(1, 128), (129, 1024), (1025, 2048), (65536, 65536)])
def test_prompts_are_padded_as_tt_transformers_does(length, computed):
    assert padded_prompt(length) == computed


@pytest.mark.parametrize("bad", [0, -1, True, 1.5])
def test_nonsense_sizes_are_refused(bad):
    with pytest.raises(ConfigError, match="batch must be a whole number"):
        predict(make_device("N150"), "Llama-3.2-1B", batch=bad)


def test_per_layer_entries_change_the_time_of_their_layers_only():
    spec = make_model("Llama-3.1-8B")

    def extra_ms(select):
        hw = make_device("N150")
        plain = predict(hw, "Llama-3.1-8B").decode_ms
        hw.layers = apply_layers(hw, [layer_entry({"select": select, "precision": {"ff1_ff3": "BFP8"}})], 32)
        return predict(hw, "Llama-3.1-8B").decode_ms - plain, sum(weight_bytes(hw, spec).values())

    one, one_bytes = extra_ms("-1")
    all_layers, all_bytes = extra_ms("all")
    none_bytes = sum(weight_bytes(make_device("N150"), spec).values())
    assert one > 0
    assert all_layers == pytest.approx(32 * one)
    assert all_bytes - none_bytes == 32 * (one_bytes - none_bytes) > 0


def test_the_bound_of_a_step_is_among_its_shares():
    speed = ask(("device=p150x4", "model=llama8b", "workload.batch=32", "runtime.stack=vllm")).prediction.speed
    assert speed.bound == "FLOP"
    assert speed.shares["flops"] == pytest.approx(speed.bound_shares["FLOP"], rel=0.05)
    assert sum(speed.bound_shares.values()) == pytest.approx(1)
