# SPDX-License-Identifier: Apache-2.0
"""The eleven defects of TTTv1's own reader, one test each, on files with the content of its real ones."""

import json

import pytest

from places import DATA
from tt_transformers_v2.config.exchange import read_decoder_json, read_optimizations, write_decoder_json
from tt_transformers_v2.hardware import AutoHardwareConfig, ConfigError, DevicePresets
from tt_transformers_v2.models.spec import ModelSpec

DATA = DATA / "tttv1"


def ids(imported):
    return {finding.id for finding in imported.findings}


def decoders(layers):
    return json.dumps({"decoders": layers})


def test_defect_1_names_and_values_are_understood_in_both_formats():
    by_name = decoders({"0": {"precision_cfg": {"FF1_FF3": "BFP4"}, "fidelity_cfg": {"LI_FF1_FF3": "HIFI2_FP16"}}})
    by_value = decoders({"0": {"precision_cfg": {"ff1_3": "bfp4"}, "fidelity_cfg": {"li_ff1_3": "hifi2fp16"}}})
    assert read_decoder_json(by_name, 1).layers == read_decoder_json(by_value, 1).layers
    assert "tttv1-spelling" in ids(read_decoder_json(by_value, 1)) - ids(read_decoder_json(by_name, 1))
    values = "precision_cfg = {ff1_3: bfp4}, fidelity_cfg = {li_ff1_3: hifi2fp16}"
    names = "precision_cfg = {FF1_FF3: BFP4}, fidelity_cfg = {LI_FF1_FF3: HIFI2_FP16}"
    assert read_optimizations(names, 1).values == read_optimizations(values, 1).values
    assert "tttv1-spelling" in ids(read_optimizations(names, 1)) - ids(read_optimizations(values, 1))


def test_defect_2_the_models_rules_hold_beside_a_file():
    spec = ModelSpec.uniform(152064, 3584, 28, 28, 18944, 4, 128, "Qwen2.5-7B-Instruct", "qwen2.5", qkv_bias=True)
    base = AutoHardwareConfig.from_device("n300", "performance", spec)
    assert base.precision.of("wqkv") == "BF16"  # TTTv1's rule for this model
    text = decoders({"27": {"precision_cfg": {"FF2": "BF16"}}})
    imported = read_decoder_json(text, 28, mode="performance", model_name=spec.name)
    config = imported.applied(base, 28)
    assert config.for_layer(27).precision.of("ff2") == "BF16"
    assert config.for_layer(27).precision.of("wqkv") == "BF16"
    assert "tttv1-model-rules" in ids(imported)


def test_defect_3_layers_the_file_does_not_reach_keep_the_mode():
    imported = read_decoder_json(DATA / "gemma_3_27b_accuracy.json", 62)
    assert [entry.select for entry in imported.layers] == ["0..25"]
    base = DevicePresets.get_config("t3k", "accuracy")
    config = imported.applied(base, 62)
    assert set(config.layers) == set(range(26))
    assert config.for_layer(61).precision == base.precision
    (finding,) = (f for f in imported.findings if f.id == "tttv1-missing-layers")
    assert finding.severity == "warning"
    assert "26..61" in finding.what
    assert "tttv1-missing-layers" in ids(read_decoder_json(DATA / "phi_4_accuracy.json", 40))
    assert "tttv1-missing-layers" not in ids(read_decoder_json(DATA / "llama_3_1_8b_performance.json", 32))


def test_defect_4_a_partial_layer_starts_from_the_chosen_mode():
    base = DevicePresets.get_config("n150", "performance")
    imported = read_decoder_json(decoders({"0": {"precision_cfg": {"WQKV": "BF16"}}}), 2, mode="performance")
    own = imported.applied(base, 2).for_layer(0)
    assert (own.precision.of("wqkv"), own.precision.of("ff1_ff3")) == ("BF16", "BFP4")
    assert own.compute_for("ff1_ff3").math_fidelity == "LoFi"
    assert "tttv1-partial-section" in ids(imported)


def test_defect_5_the_layer_after_the_last_is_the_last():
    imported = read_decoder_json(DATA / "qwen3_8b_performance.json", 36)
    assert [entry.select for entry in imported.layers] == ["35"]
    assert "tttv1-layer-out-of-range" in ids(imported)
    with pytest.raises(ConfigError, match="no layer 36"):
        read_decoder_json(DATA / "qwen3_8b_performance.json", 28)
    with pytest.raises(ConfigError, match="is given as well"):
        read_decoder_json(decoders({"1": {}, "2": {}}), 2)


def test_defect_6_a_uniform_file_becomes_one_entry():
    imported = read_decoder_json(DATA / "qwen3_32b_performance.json", 64)
    assert [entry.select for entry in imported.layers] == ["0..63"]
    assert "tttv1-uniform" in ids(imported)
    assert [e.select for e in read_decoder_json(DATA / "llama_3_2_1b_pareto.json", 16).layers] == ["0..11", "12..15"]


@pytest.mark.parametrize("text", ["precision_cfg = {ff2: bfp4}", "fidelity_cfg = {li_ff2: lofi}"])
def test_defect_7_one_section_alone_is_enough(text):
    imported = read_optimizations(text, 4)
    assert imported.values
    assert "tttv1-one-section" in ids(imported)


def test_defect_8_a_fidelity_below_the_weights_is_pointed_out():
    imported = read_decoder_json(DATA / "llama_3_1_8b_performance.json", 32)
    (finding,) = (f for f in imported.findings if f.id == "tttv1-fidelity-below-format")
    assert finding.severity == "warning"
    assert "ff1_ff3 weights are BFP8, but compute.ff1_ff3 runs at LoFi in layers 31" in finding.what
    assert imported.layers[0].values()["compute.ff1_ff3.math_fidelity"] == "LoFi"  # and still obeyed
    assert "tttv1-fidelity-below-format" not in ids(read_decoder_json(DATA / "qwen3_8b_performance.json", 36))
    everything = ", ".join(f"{op}: lofi" for op in ("li_ff2", "li_qkv_decode", "li_qkv_prefill", "li_o_decode"))
    text = f"precision_cfg = {{ff2: bfp8, wqkv: bfp8, wo: bfp8}}, fidelity_cfg = {{{everything}, li_o_prefill: lofi}}"
    assert "1 more place." in str([f for f in read_optimizations(text, 2).findings if f.id.endswith("format")][-1])


@pytest.mark.parametrize(("file", "layers"), [("molmo2_8b_performance", 36), ("olmo_3_1_32b_accuracy", 64)])
def test_defect_9_a_file_named_after_the_other_mode_is_pointed_out(file, layers):
    assert "tttv1-mode-mismatch" in ids(read_decoder_json(DATA / f"{file}.json", layers))
    assert "tttv1-mode-mismatch" not in ids(read_decoder_json(DATA / "qwen3_32b_performance.json", 64))
    assert "tttv1-mode-mismatch" not in ids(read_decoder_json(DATA / "gemma_3_27b_accuracy.json", 62))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"decoder": {}}', "Did you mean decoders"),
        ('{"decoders": {"0": {"precison_cfg": {}}}}', "Did you mean precision_cfg"),
        ('{"decoders": {"0": {"precision_cfg": {"FF1": "BFP4"}}}}', "Did you mean ff1_3"),
        ('{"decoders": {"0": {"precision_cfg": {"FF2": "BFP5"}}}}', "Did you mean bfp"),
        ('{"decoders": {"0": {"fidelity_cfg": {"LI_QKV": "LOFI"}}}}', "Did you mean li_qkv_decode"),
        ('{"decoders": {"0": {"fidelity_cfg": {"LI_FF2": "HIFI2_FP32"}}}}', "Did you mean hifi"),
        ('{"decoders": {"0": {"fidelity_cfg": {"LI_FF2": "mixed"}}}}', "not a fidelity setting"),
    ],
)
def test_defect_10_unknown_words_are_errors_with_the_nearest_one(text, message):
    with pytest.raises(ConfigError, match=message):
        read_decoder_json(text, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("precison_cfg = {ff2: bfp4}", "Did you mean precision_cfg"),
        ("precision_cfg = {ff_2: bfp4}", "Did you mean ff2"),
        ("perfomance", "Did you mean performance"),
        ("precision_cfg = {ff2: bfp4, FF2: bfp8}", "set twice"),
        ("precision_cfg = {ff2: bfp4}, precision_cfg = {wo: bfp8}", "twice"),
        ("precision_cfg = {ff2: bfp4} fidelity_cfg = {li_ff2: lofi}", "cannot read"),
        ("precision_cfg = {ff2: bfp4}, and more", "cannot read"),
        ("precision_cfg = {ff2 bfp4}", "Write group: setting"),
        ("precision_cfg = {ff2: bfp4", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_defect_10_holds_for_strings(text, message):
    with pytest.raises(ConfigError, match=message):
        read_optimizations(text, 2)


def test_defect_11_a_directory_that_differs_in_punctuation_is_pointed_out(tmp_path):
    name = "Llama-3.1-8B-Instruct"
    for directory, found in (("Llama3.1-8B-Instruct", True), (name, False), ("another-model", False)):
        file = tmp_path / directory / "performance_decoder_config.json"
        file.parent.mkdir()
        file.write_text(decoders({"0": {"precision_cfg": {"FF2": "BFP4"}}}))
        imported = read_decoder_json(str(file), 1, model_name=name)
        assert ("tttv1-directory-name" in ids(imported)) is found
        assert imported.mode == "performance"


def test_a_lone_mode_is_the_mode():
    assert read_optimizations(" Performance\n", 2).mode == "performance"
    assert read_optimizations("accuracy", 2).values == {}


def test_mixed_activations_are_those_of_tttv1():
    imported = read_optimizations("precision_cfg = {activation: mixed}", 2)
    config = imported.applied(DevicePresets.get_config("n150"), 2)
    groups = ("activations", "attention_activations", "mlp_activations")
    assert [config.precision.of(group) for group in groups] == ["BF16", "BF16", "BFP8"]
    assert "tttv1-mixed-activations" in ids(imported)


def test_activations_reach_the_finer_groups():
    base = DevicePresets.get_config("n150")
    for imported in (
        read_optimizations("precision_cfg = {activation: bfp8}", 2),
        read_decoder_json(decoders({"0": {"precision_cfg": {"ACTIVATION": "BFP8"}}}), 1),
    ):
        config = imported.applied(base, 2).for_layer(0)
        assert config.precision.of("mlp_activations") == config.precision.of("attention_activations") == "BFP8"
    assert base.precision.of("mlp_activations") == "BF16"


def test_a_file_comes_on_top_of_the_layers_a_configuration_has():
    base = DevicePresets.get_config("n150")
    base = read_decoder_json(decoders({"1": {"precision_cfg": {"WO": "BF16"}}}), 3).applied(base, 3)
    text = decoders({"1": {"precision_cfg": {"WQKV": "BF16"}}, "2": {"precision_cfg": {"FF2": "BFP4"}}})
    config = read_decoder_json(text, 3).applied(base, 3)
    assert [config.for_layer(i).precision.of("wo") for i in range(3)] == ["BFP8", "BF16", "BFP8"]
    assert config.for_layer(1).precision.of("wqkv") == "BF16"
    assert config.for_layer(2).precision.of("ff2") == "BFP4"
    config = read_optimizations("precision_cfg = {kv_cache: bf16}", 3).applied(config, 3)
    assert {config.for_layer(i).precision.of("kv_cache") for i in range(3)} == {"BF16"}
    assert config.for_layer(1).precision.of("wo") == "BF16"
    with pytest.raises(ConfigError, match="the model has 2"):
        write_decoder_json(config, 2)
