# SPDX-License-Identifier: Apache-2.0
import pytest

from tt_transformers_v2.config.model_rules import RULE_SETS, apply_rules, prefill_chunk, rules
from tt_transformers_v2.hardware import AutoHardwareConfig, ModelHardwareOverrides
from tt_transformers_v2.models.spec import ModelSpec

LLAMA_70B = ModelSpec.uniform(
    128256, 8192, 80, 64, 28672, num_kv_heads=8, name="Llama-3.3-70B-Instruct", family="llama-3.3"
)
QWEN_72B = ModelSpec.uniform(152064, 8192, 80, 64, 29568, num_kv_heads=8, name="Qwen2.5-72B", family="qwen2.5")
LLAMA_8B = ModelSpec.uniform(
    128256, 4096, 32, 32, 14336, num_kv_heads=8, name="Llama-3.1-8B-Instruct", family="llama-3.1"
)


@pytest.mark.parametrize("spec", [LLAMA_70B, QWEN_72B])
def test_models_of_70b_and_more_get_bfp4_mlps_in_accuracy_mode(spec):
    config = AutoHardwareConfig.from_device("T3K", "accuracy", spec)
    assert config.precision.mlp_weights == "BFP4"
    assert config.compute["mlp"].math_fidelity == "LoFi"
    assert config.precision.of("ff2") == "BFP8"
    assert config.compute_for("ff2").math_fidelity == "HiFi2"


def test_by_the_seeds_rules_alone_smaller_models_keep_the_modes_own_mlp():
    preset = AutoHardwareConfig.from_device("T3K", "accuracy")
    config = ModelHardwareOverrides.apply_model_overrides(preset, LLAMA_8B)
    assert config.precision.mlp_weights == "BF16"
    assert config.compute["mlp"].math_fidelity == "HiFi2"


def test_a_model_that_tt_transformers_runs_gets_what_it_does_there():
    config = AutoHardwareConfig.from_device("T3K", "accuracy", LLAMA_8B)
    assert config.precision.mlp_weights == "BFP8"
    settings = config.compute_for("ff1_ff3")
    assert (settings.math_fidelity, settings.fp32_dest_acc_en) == ("HiFi2", False)
    quick = AutoHardwareConfig.from_device("N150", "performance", LLAMA_8B)
    assert quick.precision.of("ff1_ff3") == "BFP4"
    assert quick.for_layer(31).precision.of("ff1_ff3") == "BFP8"
    assert quick.for_layer(30).precision.of("ff1_ff3") == "BFP4"


def test_an_unknown_model_keeps_the_presets():
    spec = ModelSpec.uniform(32000, 4096, 32, 32, 11008)
    assert AutoHardwareConfig.from_device("T3K", "accuracy", spec).precision.mlp_weights == "BF16"


def test_llama_3_gets_bfp8_attention_in_accuracy_mode_and_others_do_not():
    preset = AutoHardwareConfig.from_device("T3K", "accuracy")
    llama, qwen = (ModelHardwareOverrides.apply_model_overrides(preset, spec) for spec in (LLAMA_8B, QWEN_72B))
    assert (llama.precision.attention_weights, llama.precision.kv_cache) == ("BFP8", "BFP8")
    assert (qwen.precision.attention_weights, qwen.precision.kv_cache) == ("BF16", "BF16")


def test_what_the_user_typed_is_not_overridden_and_the_rule_says_so():
    config = AutoHardwareConfig.from_device("T3K", "accuracy")
    ruled = apply_rules(config, LLAMA_70B, typed={"precision.mlp_weights"})
    after, effects = ruled.config, ruled.effects
    assert after.precision.mlp_weights == "BF16"
    overruled = {effect.path for effect in effects if effect.overruled_by == "precision.mlp_weights"}
    assert {"precision.mlp_weights", "precision.ff2", "compute.mlp.math_fidelity"} <= overruled
    assert after.compute["mlp"].math_fidelity == "HiFi2", "LoFi was meant for BFP4"


def test_a_typed_fidelity_leaves_the_rules_formats_in_force():
    config = AutoHardwareConfig.from_device("T3K", "accuracy")
    after = apply_rules(config, LLAMA_70B, typed={"compute.mlp.math_fidelity"}).config
    assert after.precision.mlp_weights == "BFP4"
    assert after.compute["mlp"].math_fidelity == "HiFi2"


def test_overrides_leave_the_given_configuration_alone():
    config = AutoHardwareConfig.from_device("T3K", "accuracy")
    changed = ModelHardwareOverrides.apply_model_overrides(config, LLAMA_70B)
    assert config.precision.mlp_weights == "BF16"
    assert changed is not config


@pytest.mark.parametrize(
    ("name", "device", "tokens"),
    [
        ("Llama-3.1-8B-Instruct", "N150", 4096),
        ("Llama-3.1-8B", "N300", 65536),
        ("Llama-3.1-8B", "T3K", 131072),
        ("Llama-3.1-70B-Instruct", "T3K", 32768),
        ("Llama-3.1-70B", "TG", 131072),
        ("SmolLM2-135M-Instruct", "N150", None),
    ],
)
def test_prefill_chunks_of_the_seed(name, device, tokens):
    assert prefill_chunk(name, device) == tokens


def test_every_rule_states_its_source():
    for rule_set in RULE_SETS:
        assert all(rule.source and rule.why for rule in rules(rule_set))
        assert len({rule.id for rule in rules(rule_set)}) == len(rules(rule_set))
