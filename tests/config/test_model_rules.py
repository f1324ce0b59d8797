# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

from tt_transformers_v2.config.model_rules import (
    RULE_SETS,
    RuleEffect,
    apply_rules,
    base_name,
    chunk_unsupported,
    holds,
    knobs,
    prefill_chunk,
    rules,
    trace_region,
)
from tt_transformers_v2.hardware import AutoHardwareConfig, ConfigError, ModelHardwareOverrides, PrecisionMode
from tt_transformers_v2.models.spec import ModelSpec

LLAMA_70B = ModelSpec.uniform(
    128256, 8192, 80, 64, 28672, num_kv_heads=8, name="Llama-3.1-70B-Instruct", family="llama-3.1"
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


ACCURACY, PERFORMANCE, CUSTOM = PrecisionMode.ACCURACY, PrecisionMode.PERFORMANCE, PrecisionMode.CUSTOM
CONDITIONS = [
    # A condition, what meets it, and what does not; the rest is as in GIVEN.
    ({"mode": ["accuracy", "performance"]}, {"mode": PERFORMANCE}, {"mode": CUSTOM}),
    ({"mode": ["accuracy"]}, {"mode": ACCURACY}, {"mode": PERFORMANCE}),
    ({"mode": ["accuracy"]}, {"mode": None}, {"mode": CUSTOM}),
    ({"device": ["N150", "N300"]}, {"device": "N300"}, {"device": "T3K"}),
    ({"arch": ["blackhole"]}, {"device": "P150"}, {"device": "N150"}),
    ({"family": ["llama-3*"]}, {"family": "Llama-3.1"}, {"family": "llama-2"}),
    ({"family": ["qwen*", "llama-3*"]}, {"family": "llama-3"}, {"family": ""}),
    ({"name": ["llama-3.1-8b"]}, {"name": "Llama-3.1-8B-Instruct"}, {"name": "Llama-3.1-8B-Base"}),
    ({"name": ["*-instruct"]}, {"name": "Llama-3.1-8B-Instruct"}, {"name": "Llama-3.1-8B"}),
    ({"models": ["qwen2*", "phi-*"]}, {"name": "Phi-4"}, {"name": "Falcon3-7B"}),
    ({"not_name": ["llama-3.1-8b"]}, {"name": "Llama-3.1-70B"}, {"name": "Llama-3.1-8B-Instruct"}),
    ({"parameters_at_least": 70e9}, {"parameters": 70_000_000_000}, {"parameters": 69_999_999_999}),
    ({"current": {"precision.kv_cache": "BFP8"}}, {"mode": PERFORMANCE}, {"kv_cache": "BF16"}),
    ({"current": {"precision.kv_cache": "BF16"}}, {"kv_cache": "BF16"}, {"kv_cache": "BFP8"}),
    ({"current": {"precision.kv_cache": "BFP8", "memory.use_width_sharding": True}}, {}, {"width_sharding": False}),
    ({"mode": ["accuracy"], "arch": ["blackhole"]}, {"device": "P150"}, {"device": "N150"}),
    ({"mode": ["accuracy"], "arch": ["blackhole"]}, {"device": "P150"}, {"device": "P150", "mode": PERFORMANCE}),
]
GIVEN = {"device": "N150", "mode": ACCURACY, "name": "some", "family": "other", "parameters": 10**9}


def met(when, device, mode, name, family, parameters, kv_cache="BFP8", width_sharding=True):
    config = AutoHardwareConfig.custom(
        device, precision={"kv_cache": kv_cache}, memory={"use_width_sharding": width_sharding}
    )
    return holds(when, config, SimpleNamespace(name=name, family=family, num_parameters=parameters), mode)


@pytest.mark.parametrize(("when", "meeting", "failing"), CONDITIONS)
def test_a_condition_holds_just_where_it_says(when, meeting, failing):
    assert met(when, **GIVEN | meeting)
    assert not met(when, **GIVEN | failing)


def test_a_rule_without_conditions_holds_and_an_unknown_condition_is_refused():
    assert met({}, **GIVEN)
    for unknown in ("age", "colour", "zone"):
        with pytest.raises(ConfigError, match=f"unknown condition '{unknown}'"):
            met({unknown: ["red"]}, **GIVEN)


@pytest.mark.parametrize(("parameters", "format"), [(69_999_999_999, "BF16"), (70_000_000_000, "BFP4")])
def test_bfp4_mlps_begin_at_seventy_billion_parameters(parameters, format):
    model = SimpleNamespace(name="some", family="other", num_parameters=parameters)
    config = AutoHardwareConfig.from_device("T3K", "accuracy", model)
    assert config.precision.of("ff1_ff3") == format
    (stated,) = [rule.when["parameters_at_least"] for rule in rules("none") if "parameters_at_least" in rule.when]
    assert stated == ModelHardwareOverrides.LARGE_MODEL_THRESHOLD


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("Llama-3.2-90B-Vision-Instruct", "Llama-3.2-90B"),
        ("Mistral-7B-Instruct-v0.3", "Mistral-7B"),
        ("phi-3-mini-128k-INSTRUCT", "phi-3-mini-128k"),
        ("Qwen2.5-7B", "Qwen2.5-7B"),
        ("Instructive-7B", "Instructive-7B"),
    ],
)
def test_the_tables_spell_a_model_without_instruct(name, base):
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("name", "device", "bytes"),
    [
        ("Llama-3.1-8B-Instruct", "N150", 0),
        ("llama-3.3-70b", "T3K", 224_000_000),
        ("Llama-3.1-8B", "P150", None),
        ("SmolLM2-135M-Instruct", "N150", None),
    ],
)
def test_trace_regions_are_those_of_the_table(name, device, bytes):
    assert trace_region(name, device) == bytes


@pytest.mark.parametrize(
    ("name", "device", "refused"),
    [
        ("Llama-3.1-70B-Instruct", "N300", True),
        ("Llama-3.1-70B", "T3K", False),
        ("Llama-3.1-70B", "P150", False),
        ("SmolLM2-135M", "N150", False),
    ],
)
def test_only_a_null_in_the_table_refuses_a_model(name, device, refused):
    assert chunk_unsupported(name, device) is refused


def test_the_tables_values_are_set_for_model_and_device():
    config = AutoHardwareConfig.from_device("N300")
    ruled = apply_rules(config, LLAMA_8B, rule_set="none")
    assert (ruled.config.max_prefill_chunk_size, ruled.config.trace_region_size) == (65536, 60_000_000)
    said = {effect.path: effect for effect in ruled.effects}
    assert said["device.max_prefill_chunk_size"] == RuleEffect(
        "prefill-chunk-table", "device.max_prefill_chunk_size", 65536, 4096
    )
    assert said["device.trace_region_size"] == RuleEffect(
        "trace-region-table", "device.trace_region_size", 60_000_000, 50_000_000
    )


def test_a_typed_value_beats_the_tables_which_say_so():
    typed = {"device.max_prefill_chunk_size"}
    ruled = apply_rules(AutoHardwareConfig.from_device("N300"), LLAMA_8B, rule_set="none", typed=typed)
    assert (ruled.config.max_prefill_chunk_size, ruled.config.trace_region_size) == (4096, 60_000_000)
    overruled = [effect.path for effect in ruled.effects if effect.overruled_by]
    assert overruled == ["device.max_prefill_chunk_size"]


def test_an_effect_changed_something_where_the_values_differ():
    assert RuleEffect("rule", "path", "BFP4", "BFP8").changed
    assert RuleEffect("rule", "path", "BFP8", "BFP4").changed
    assert not RuleEffect("rule", "path", int("65536"), 65536).changed


def test_an_effect_is_what_it_does_and_not_why():
    assert RuleEffect("rule", "path", 1, 2, why="one") == RuleEffect("rule", "path", 1, 2, why="another")
    assert RuleEffect("rule", "path", 1, 2, source="one") == RuleEffect("rule", "path", 1, 2, source="another")
    assert RuleEffect("rule", "path", 1, 2) != RuleEffect("rule", "path", 1, 2, overruled_by="path")


@pytest.mark.parametrize(("typed", "format"), [(set(), "BFP8"), ({"precision.ff1_ff3"}, "BF16")])
def test_a_rules_coarse_format_reaches_finer_groups_that_nobody_typed(typed, format):
    preset = AutoHardwareConfig.custom("N150", precision={"ff1_ff3": "BF16", "ff2": "BF16"})
    config = apply_rules(preset, LLAMA_8B, mode=ACCURACY, typed=typed).config
    assert (config.precision.of("ff1_ff3"), config.precision.of("ff2")) == (format, "BFP8")


def test_linked_kernels_are_overruled_by_the_first_format_of_the_rule_that_was_typed():
    typed = {"precision.ff2", "precision.mlp_weights"}
    ruled = apply_rules(AutoHardwareConfig.from_device("T3K", "accuracy"), LLAMA_70B, rule_set="none", typed=typed)
    overruled = {effect.path: effect.overruled_by for effect in ruled.effects}
    assert overruled["compute.ff2.math_fidelity"] == "precision.mlp_weights"


def test_the_last_rule_has_the_word_and_the_value_before_any_rule_is_told():
    ruled = apply_rules(AutoHardwareConfig.from_device("T3K", "accuracy"), LLAMA_70B, mode=ACCURACY)
    (mlp,) = [effect for effect in ruled.effects if effect.path == "precision.mlp_weights"]
    assert (mlp.rule, mlp.value, mlp.previous, mlp.overruled_by) == ("mlp-bfp4-from-70b", "BFP4", "BF16", None)
    assert mlp.why == "models with 70 B parameters or more do not fit, or barely fit, with a wider MLP"
    assert mlp.source.startswith("seed design")
    (fp32,) = [effect for effect in ruled.effects if effect.path == "compute.ff2.fp32_dest_acc_en"]
    assert (fp32.value, fp32.previous) == (False, True)


def test_a_rule_of_tttv1_is_for_its_models_and_a_seeds_rule_for_all():
    assert all(rule.when["models"] for rule in rules("tttv1") if rule not in rules("none"))
    assert not any("models" in rule.when for rule in rules("none"))


def test_a_rule_has_the_source_of_its_own_or_of_its_file():
    sources = {rule.id: rule.source for rule in rules("tttv1")}
    assert sources["base"] == "tt-metal models/tt_transformers/tt/model_config.py@17a8a99d"
    assert sources["json-phi-4"] == "tt-metal model_params/phi-4/accuracy_decoder_config.json"


def test_kernels_are_linked_to_formats_only_where_the_rule_says_so():
    assert {rule.id for rule in rules("tttv1") if rule.linked} >= {"mlp-bfp4-from-70b", "perf-generic"}
    assert not {rule.id for rule in rules("tttv1") if rule.linked} & {"base", "llama3-bfp8-attention"}


def test_linked_kernels_stay_out_once_a_format_is_typed_and_others_do_not():
    """FF1 in BFP4 with LoFi is one rule; that attention is at HiFi2 another, whatever its format."""
    typed = {"precision.ff1_ff3", "precision.attention_weights"}
    preset = AutoHardwareConfig.from_device("N150", "accuracy")
    ruled = apply_rules(preset, LLAMA_8B, mode=PERFORMANCE, typed=typed)
    assert ruled.config.compute_for("ff1_ff3").math_fidelity == "HiFi2"
    assert ruled.config.compute_for("qkv").math_fidelity == "HiFi2"
    overruled = {effect.path: effect.overruled_by for effect in ruled.effects if effect.overruled_by}
    assert overruled["compute.ff1_ff3.math_fidelity"] == "precision.ff1_ff3"
    assert "compute.attention.math_fidelity" not in overruled


def test_a_rules_layers_come_with_it_and_only_then():
    (last,) = apply_rules(AutoHardwareConfig.from_device("N150"), LLAMA_8B, mode=PERFORMANCE).layers
    assert (last.select, last.precision, last.origin) == ("-1", {"ff1_ff3": "BFP8"}, "json-llama3.1-8b")
    assert last.compute["ff1_ff3"]["math_fidelity"] == "LoFi"
    assert apply_rules(AutoHardwareConfig.from_device("N150"), LLAMA_8B, mode=ACCURACY).layers == []


def test_knobs_are_those_that_hold_for_model_and_device_and_the_last_has_the_word():
    on_n150, on_n300, on_p150 = (
        knobs(AutoHardwareConfig.from_device(name), LLAMA_8B) for name in ("N150", "N300", "P150")
    )
    assert on_n150 == {"prefill_len_cutoff": 512, "lm_head_max_columns_per_core": 668}
    assert on_n300 == {"prefill_len_cutoff": 1024, "lm_head_max_columns_per_core": 668}
    assert on_p150 == {"prefill_len_cutoff": 512, "lm_head_max_columns_per_device": 16032}


def test_an_unknown_rule_set_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no rule set named 'tttv3'. .*model_rules=tttv"):
        apply_rules(AutoHardwareConfig.from_device("N150"), LLAMA_8B, rule_set="tttv3")


def test_the_published_description_of_a_system_is_shared_and_the_rest_copied():
    config = AutoHardwareConfig.from_device("N150")
    ruled = apply_rules(config, LLAMA_8B).config
    assert ruled.system is config.system
    assert ruled.precision is not config.precision
