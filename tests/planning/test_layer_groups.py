# SPDX-License-Identifier: Apache-2.0
"""Layers grouped by configuration and kind, and which kinds the ttnn backend takes."""

from __future__ import annotations

import dataclasses

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware import DevicePresets
from tt_transformers_v2.models.layer_spec import AttentionSpec, ExpertsSpec, LayerSpec, MlpSpec
from tt_transformers_v2.models.rotary_spec import Rotary
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.planning.layer_groups import layer_groups, ordered_groups
from tt_transformers_v2.planning.refusals import beyond_ttnn
from tt_transformers_v2.planning.split import Split

LLAMA, WINDOWED = (LayerSpec(AttentionSpec(window=window), MlpSpec(1024)) for window in (None, 64))
SHAPE = {"vocab_size": 1024, "hidden_dim": 512, "num_heads": 8, "num_kv_heads": 8, "head_dim": 64}


def of(*layers, **more):
    return ModelSpec.of_layers(layers, **SHAPE, **more)


def hardware(own_layers=()):
    config = DevicePresets.get_config("N150", "performance")
    own = dataclasses.replace(config, layers={})
    config.layers = dict.fromkeys(own_layers, own)
    return config


def numbers(groups):
    return [list(group.layers) for group in groups]


def test_a_uniform_model_has_one_group_a_configuration():
    spec = of(*[LLAMA] * 4)
    assert numbers(layer_groups(hardware(), spec)) == [[0, 1, 2, 3]]
    assert numbers(layer_groups(hardware([0, 2]), spec)) == [[1, 3], [0, 2]]
    assert numbers(ordered_groups(hardware([0, 2]), spec)) == [[0, 2], [1, 3]]


def test_layers_of_one_kind_and_configuration_are_a_group():
    spec = of(WINDOWED, LLAMA, WINDOWED, LLAMA)
    groups = layer_groups(hardware([0, 1]), spec)
    assert numbers(groups) == [[2], [3], [0], [1]]
    assert [group.kind for group in groups] == [WINDOWED, LLAMA, WINDOWED, LLAMA]
    assert numbers(ordered_groups(hardware(), spec)) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    "kind",
    [
        LLAMA,
        WINDOWED,
        LayerSpec(AttentionSpec(rotary=None), MlpSpec(1024)),
        LayerSpec(AttentionSpec(scale=0.5, qk_norm="head", qkv_bias=True), MlpSpec(1024)),
        LayerSpec(AttentionSpec(qk_norm="all", output_bias=True, sinks=True), MlpSpec(1024, bias=True), norms="both"),
        LayerSpec(AttentionSpec(rotary=Rotary(1e6, rotated=32)), MlpSpec(1024, gated=False), norms="after"),
        LayerSpec(AttentionSpec(), experts=ExpertsSpec(4, 2, MlpSpec(1024, limit=7.0))),
    ],
)
def test_kinds_that_the_ttnn_backend_takes(kind):
    spec = of(LLAMA, kind, logit_cap=30.0)
    assert beyond_ttnn(spec) is None
    assert Split.of(hardware(), spec).matrices(spec)["w1"] == (512, 1024)


def test_soft_caps_of_attention_are_refused():
    spec = of(LLAMA, LayerSpec(AttentionSpec(cap=50.0), MlpSpec(1024)))
    assert "soft caps of attention" in beyond_ttnn(spec).why
    with pytest.raises(ConfigError, match="backend=ttnn cannot compute"):
        Split.of(hardware(), spec)


def test_a_chips_part_of_a_matrix_goes_by_its_layer():
    shared = ExpertsSpec(40, 2, MlpSpec(100), shared=MlpSpec(200), shared_gate=True)
    spec = of(LLAMA, LayerSpec(AttentionSpec(), experts=shared))
    split = Split(2, 1, 1, (1, 2))
    assert split.part(spec, "w1", 0) == (512, 512)
    assert split.part(spec, "expert39.w1", 1) == (512, 64)
    assert split.part(spec, "expert0.w2", 1) == (64, 512)
    assert split.part(spec, "shared.w2", 1) == (128, 512)
    assert split.part(spec, "router", 1) == (512, 64)
    assert split.part(spec, "shared.gate", 1) == (512, 32)
    with pytest.raises(ConfigError, match="layer 0 of unnamed has no router"):
        split.part(spec, "router", 0)


def test_a_chips_matrices_are_those_of_the_widest_mlp_and_of_one_expert():
    wide = LayerSpec(AttentionSpec(), MlpSpec(2048))
    experts = LayerSpec(AttentionSpec(), experts=ExpertsSpec(4, 2, MlpSpec(128)))
    spec = of(LLAMA, wide, experts)
    found = Split.over(hardware()).matrices(spec)
    assert found["w1"] == (512, 2048)
    assert (found["experts.w1"], found["experts.w2"]) == ((512, 128), (128, 512))
    assert "w3" not in Split.over(hardware()).matrices(of(LayerSpec(AttentionSpec(), MlpSpec(64, gated=False))))
