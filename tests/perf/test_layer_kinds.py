# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of models whose layers differ, and of models with experts."""

from __future__ import annotations

import dataclasses

import pytest
from perf_cases import make_device

from tt_transformers_v2.calibrate.measured_rows import load_calibration
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.model_shapes import described_spec
from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.models.layer_spec import AttentionSpec, ExpertsSpec, LayerSpec, MlpSpec
from tt_transformers_v2.models.rotary_spec import Rotary
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.perf import predict
from tt_transformers_v2.perf.decode_profile import decode_profile
from tt_transformers_v2.perf.footprint import (
    ActivationFormats,
    live_activations,
    rotary_bytes_per_position,
    weight_bytes,
)
from tt_transformers_v2.perf.memory import memory_fit

CALIBRATION = load_calibration("tt_metal_2026")
SHAPE = {"vocab_size": 32000, "hidden_dim": 2048, "num_heads": 32, "num_kv_heads": 8, "head_dim": 64}
LLAMA = LayerSpec(AttentionSpec(), MlpSpec(8192))


def of(*layers):
    return ModelSpec.of_layers(layers, **SHAPE, name="some", family="llama-3")


def with_attention(**fields):
    return LayerSpec(AttentionSpec(**fields), MlpSpec(8192))


def with_experts(count=32, top_k=4, width=2048, **fields):
    return LayerSpec(AttentionSpec(), experts=ExpertsSpec(count, top_k, MlpSpec(width), **fields))


def predicted(spec, device="N150", *, prompt=128, batch=1, context=None):
    return predict(make_device(device), spec, CALIBRATION, prompt_length=prompt, batch=batch, context=context)


def decode_us(spec, **asked):
    return predicted(spec, **asked).speed.decode_us


def times(spec, **asked):
    found = {}
    for line in predicted(spec, **asked).speed.ops:
        found.setdefault(line.op.name, []).append(line)
    return found


def test_layers_of_two_kinds_cost_what_the_two_models_do_on_average():
    """Half of the layers have a window: their step is between those of all and none."""
    windowed = with_attention(window=1024)
    asked = {"context": 32768, "batch": 8}
    full, narrow = decode_us(of(*[LLAMA] * 8), **asked), decode_us(of(*[windowed] * 8), **asked)
    assert narrow < full
    mixed = decode_us(of(*[LLAMA, windowed] * 4), **asked)
    assert mixed == pytest.approx((full + narrow) / 2)


def test_a_window_is_read_up_to_the_context():
    narrow, wide = with_attention(window=64), with_attention(window=96)
    assert decode_us(of(narrow, narrow), context=64) == decode_us(of(wide, wide), context=64)
    assert decode_us(of(narrow, narrow), context=96) < decode_us(of(wide, wide), context=96)


def test_layers_with_a_window_store_as_much_cache_as_others():
    own = make_device("N150")
    caches = {
        memory_fit(own, of(*layers), context=8192).kv_cache
        for layers in ([LLAMA] * 4, [with_attention(window=512)] * 4, [LLAMA, with_attention(window=512)] * 2)
    }
    assert len(caches) == 1


def test_every_expert_is_stored_and_those_touched_are_read():
    few, many = of(*[with_experts(32)] * 2), of(*[with_experts(64)] * 2)
    own = make_device("N150")
    stored = {spec: weight_bytes(own, spec)["experts"] for spec in (few, many)}
    assert stored[few] == 2 * 32 * 3 * 64 * 64 * own.precision.of("experts").tile_bytes
    assert stored[many] == 2 * stored[few]
    one = {spec: times(spec)["experts_ff1"][0].op.weight_bytes for spec in (few, many)}
    assert one[few] == one[many]
    assert (
        times(many, batch=8)["experts_ff1"][0].op.weight_bytes > times(few, batch=8)["experts_ff1"][0].op.weight_bytes
    )


def test_experts_are_split_over_the_chips_by_their_width():
    spec = of(with_experts())
    assert weight_bytes(make_device("N150"), spec)["experts"] == 8 * weight_bytes(make_device("T3K"), spec)["experts"]
    narrow = of(with_experts(width=360 * 8))  # as gpt-oss: 360 columns a chip take 12 tiles
    assert weight_bytes(make_device("T3K"), narrow)["experts"] == 32 * 3 * 64 * 12 * DataFormat.BFP8.tile_bytes


def test_router_shared_expert_and_biases_of_experts_are_stored():
    own = make_device("N150")
    plain, shared = of(with_experts()), of(with_experts(shared=MlpSpec(4096), shared_gate=True))
    assert "ff1_ff3" not in weight_bytes(own, plain)
    more = weight_bytes(own, shared)
    assert more["ff1_ff3"] > 0
    assert more["router"] > weight_bytes(own, plain)["router"] > 0
    biased = LayerSpec(AttentionSpec(), experts=ExpertsSpec(32, 4, MlpSpec(2048, bias=True)))
    bias = weight_bytes(own, of(biased))["experts"] - weight_bytes(own, plain)["experts"]
    assert bias == 32 * (64 + 64 + 64) * DataFormat.BF16.tile_bytes


@pytest.mark.parametrize(
    ("kind", "op", "more"),
    [
        (dataclasses.replace(LLAMA, norms="both"), "rms_norm", 2),
        (dataclasses.replace(LLAMA, norms="after"), "rms_norm", 0),
        (with_attention(qk_norm="all"), "qk_norm", 2),
        (with_attention(qk_norm="head"), "qk_norm", 2),
        (with_attention(rotary=None), "rope", -2),
        (with_attention(output_bias=True), "add", 1),
        (LayerSpec(AttentionSpec(), MlpSpec(8192, bias=True)), "add", 1),
        (LayerSpec(AttentionSpec(), MlpSpec(8192, gated=False, activation="relu2")), "ff3", -1),
    ],
)
def test_what_a_kind_has_besides_counts_with_its_gap(kind, op, more):
    def count(spec, name):
        return sum(line.count for line in times(spec).get(name, []))

    own, llama = of(kind), of(LLAMA)
    assert count(own, op) == count(llama, op) + more
    assert count(own, "gap") == count(llama, "gap") + more


def test_a_layer_with_experts_has_a_router_a_top_k_and_passes_over_all_outputs():
    found = times(of(with_experts()))
    assert {"router", "top_k", "experts_pass", "experts_ff1", "experts_ff3", "experts_ff2"} <= set(found)
    assert "silu_mul" not in found
    assert "silu_mul" in times(of(with_experts(shared=MlpSpec(512))))


def test_a_prompt_reads_its_experts_tile_by_tile():
    short, long = (predicted(of(with_experts(), with_experts()), prompt=p).speed for p in (128, 1024))
    read = [
        sum(line.op.weight_bytes for line in speed.prefill_ops if "experts" in line.op.name) for speed in (short, long)
    ]
    assert read[1] == pytest.approx(8 * read[0])


def test_experts_widen_the_band_and_say_why():
    plain, experts = predicted(of(LLAMA)), predicted(of(with_experts()))
    assert plain.decode.kind == "calibrated"
    assert experts.decode.kind == experts.prefill.kind == "extrapolated"
    assert any(reason.startswith("experts") for reason in experts.decode.reasons)


def test_an_own_configuration_of_a_layer_holds_for_its_kind_alone():
    spec, own = of(LLAMA, with_experts(), LLAMA, with_experts()), make_device("N150")
    before = weight_bytes(own, spec)
    own.layers = {
        1: dataclasses.replace(own, layers={}, precision=dataclasses.replace(own.precision, experts=DataFormat.BF16))
    }
    after = weight_bytes(own, spec)
    assert after["experts"] > before["experts"]
    assert {group: size for group, size in after.items() if group != "experts"} == {
        group: size for group, size in before.items() if group != "experts"
    }


def test_each_rotary_table_takes_its_rows():
    two = of(with_attention(rotary=Rotary(1e4)), with_attention(rotary=Rotary(1e6)))
    assert rotary_bytes_per_position(two) == 2 * rotary_bytes_per_position(of(LLAMA))


def test_activations_of_experts_are_those_of_the_chosen_ones():
    formats = ActivationFormats(DataFormat.BF16, DataFormat.BF16, DataFormat.BF16)

    def mlp(kind):
        return live_activations(of(kind), kind, 1, formats, lambda width, _: width).mlp

    assert mlp(with_experts(32, 4, 2048)) == mlp(LayerSpec(AttentionSpec(), MlpSpec(4 * 2048)))


def test_a_profile_is_listed_for_layers_of_the_llama_kind_only():
    decode_profile(predicted(of(LLAMA)))
    with pytest.raises(ConfigError, match="not of the Llama kind"):
        decode_profile(predicted(of(with_experts())))


@pytest.mark.parametrize(
    ("name", "billions", "active", "gib"),
    # GiB per chip on T3K in BFP8: all parameters, the embedding in BF16 and once more as LM head.
    [
        ("gpt-oss-20b", 20.91, 4.19, (2.6, 3.3)),
        ("Qwen3-30B-A3B", 30.53, 3.35, (3.7, 4.2)),
        ("gemma-3-4b-it", 3.88, 3.88, (0.5, 0.8)),
    ],
)
def test_published_models_store_what_their_parameters_take(name, billions, active, gib):
    spec, own = described_spec(name), make_device("T3K")
    assert (spec.num_parameters / 1e9, spec.active_parameters / 1e9) == pytest.approx((billions, active), abs=0.01)
    assert gib[0] < sum(weight_bytes(own, spec).values()) / 2**30 < gib[1]
