# SPDX-License-Identifier: Apache-2.0
"""Presets that name their family: the layers that follow, and what is said of values that do not fit."""

from __future__ import annotations

import json

import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.models.huggingface_config import huggingface_spec


def spec_of(*overrides):
    return resolve(compose(("device=t3k", *overrides))).spec


def windows(spec):
    return [spec.layer(i).attention.window for i in range(spec.num_layers)]


def test_gemma_3_has_a_full_layer_after_five_windows_with_a_table_of_its_own():
    spec = spec_of("model=gemma3_4b")
    assert [i for i, window in enumerate(windows(spec)) if window is None] == [5, 11, 17, 23, 29]
    assert set(windows(spec)) == {None, 1024}
    full, local = (spec.layer(i).attention.rotary for i in (5, 0))
    assert (full.theta, full.scaling.kind, full.scaling.factor) == (1e6, "linear", 8.0)
    assert (local.theta, local.scaling) == (1e4, None)
    assert spec.layer(0).attention.scale == 256**-0.5
    assert spec_of("model=gemma3_27b").layer(0).attention.scale == 168**-0.5


def test_gpt_oss_alternates_and_has_sinks_and_biased_experts():
    spec = spec_of("model=gpt_oss_20b")
    assert windows(spec)[:4] == [128, None, 128, None]
    kind = spec.layer(0)
    assert kind.attention.sinks
    assert (kind.experts.count, kind.experts.top_k, kind.experts.router) == (32, 4, "top_k_then_softmax")
    assert (kind.experts.mlp.bias, kind.experts.mlp.limit) == (True, 7.0)
    assert kind.attention.rotary.scaling.truncate is False


def test_qwen3_moe_and_mixtral_have_normalised_experts_in_every_layer():
    qwen, mixtral = spec_of("model=qwen3_30b_a3b").layer(47), spec_of("model=mixtral_8x7b").layer(0)
    assert (qwen.experts.count, qwen.experts.top_k, qwen.experts.mlp.width, qwen.experts.normalised) == (
        128,
        8,
        768,
        True,
    )
    assert qwen.attention.qk_norm == "head"
    assert (mixtral.experts.count, mixtral.experts.mlp.width) == (8, 14336)
    assert mixtral.attention.window is None


def test_every_fourth_layer_of_smollm3_does_not_rotate_and_phi_4_mini_rotates_in_part():
    smol = spec_of("model=smollm3_3b")
    assert [smol.layer(i).attention.rotary is None for i in range(4)] == [False, False, False, True]
    assert spec_of("model=phi4_mini").layer(0).attention.rotary.rotated == 96


def test_what_a_preset_says_can_be_typed():
    spec = spec_of("model=gpt_oss_20b", "model.config.num_experts_per_tok=2", "model.num_layers=4")
    assert (spec.layer(0).experts.top_k, spec.num_layers) == (2, 4)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["model.config.num_experts_per_tok=33"], "num_experts_per_tok 33 is more than num_local_experts 32"),
        (["model.config.experts_per_token=4"], "model.config.experts_per_token is nothing that gpt_oss reads"),
        (["model.config.hidden_size=64"], "Use model.hidden_dim"),
        (["model.model_type=gpt_os"], "Did you mean gpt_oss"),
        (["model.model_type=gemma3"], "no model_type named 'gemma3'"),
        (["model.qkv_bias=true"], "model.qkv_bias follows from model.model_type=gpt_oss"),
        (["model.rope_scaling.kind=linear"], "Use model.config.rope_scaling"),
        (["model.model_type=null"], "needs a model_type that reads it"),
    ],
)
def test_what_does_not_fit_the_family_is_refused(typed, says):
    with pytest.raises(ConfigError) as caught:
        spec_of("model=gpt_oss_20b", *typed)
    assert says in str(caught.value)


def test_phi_4_mini_is_what_its_published_folder_says(tmp_path):
    scaling = read_yaml("model/phi4_mini.yaml")["config"]["rope_scaling"]
    config = {
        "model_type": "phi3",
        "architectures": ["Phi3ForCausalLM"],
        "vocab_size": 200064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "sliding_window": 262144,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "longrope", **{key: scaling[key] for key in ("short_factor", "long_factor")}},
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    published, preset = huggingface_spec(tmp_path), spec_of("model=phi4_mini")
    assert (preset.kinds, preset.pattern) == (published.kinds, published.pattern)
    assert preset.num_parameters == published.num_parameters == 3_836_021_760
