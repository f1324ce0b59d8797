# SPDX-License-Identifier: Apache-2.0
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from places import DATA
from tt_transformers_v2.config.exchange import (
    read_decoder_json,
    read_optimizations,
    write_decoder_json,
    write_optimizations,
)
from tt_transformers_v2.config.kernel_words import words
from tt_transformers_v2.config.layers import apply_layers, layer_entry
from tt_transformers_v2.hardware import ConfigError, DevicePresets

DATA = DATA / "tttv1"
DEPTHS = {
    "llama_3_1_8b_performance": 32,
    "qwen3_8b_performance": 36,
    "qwen3_32b_performance": 64,
    "gemma_3_27b_accuracy": 62,
    "phi_4_accuracy": 40,
    "molmo2_8b_performance": 36,
    "olmo_3_1_32b_accuracy": 64,
    "llama_3_2_1b_pareto": 16,
}

# In TTTv1's own words, so that the configuration reached is one it can express.
FORMATS = st.fixed_dictionaries({word.value: st.sampled_from(["bfp4", "bfp8", "bf16"]) for word in words("tensors")})
SETTINGS = [word.value for word in words("fidelities")]
KERNELS = st.fixed_dictionaries({word.value: st.sampled_from(SETTINGS) for word in words("ops")})


def tttv1_settings(config, num_layers):
    """Everything TTTv1 can say of a configuration."""
    return [
        (
            {word.ours: own.precision.of(word.ours) for word in words("tensors")},
            [own.precision.of(group) for group in ("attention_activations", "mlp_activations")],
            {word.ours: own.compute_for(word.ours) for word in words("ops")},
        )
        for own in map(config.for_layer, range(num_layers))
    ]


def written(formats, kernels):
    """A string in TTTv1's own order, whatever the order of the mappings."""
    sections = {"precision_cfg": ("tensors", formats), "fidelity_cfg": ("ops", kernels)}
    return ", ".join(
        f"{name} = {{{', '.join(f'{word.value}: {pairs[word.value]}' for word in words(kind))}}}"
        for name, (kind, pairs) in sections.items()
    )


@settings(max_examples=60, deadline=None)
@given(FORMATS, KERNELS, st.booleans())
def test_a_string_comes_back_as_it_was(formats, kernels, mixed):
    if mixed:
        formats["activation"] = "mixed"
    text = written(formats, kernels)
    config = read_optimizations(text, 4).applied(DevicePresets.get_config("n150"), 4)
    assert write_optimizations(config) == text
    assert write_optimizations(config, num_layers=4).findings == ()
    other = read_optimizations(write_optimizations(config), 4).applied(DevicePresets.get_config("n150", "accuracy"), 4)
    assert tttv1_settings(other, 4) == tttv1_settings(config, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(FORMATS, KERNELS), min_size=1, max_size=5), st.data())
def test_a_decoder_file_comes_back_as_it_was(stated, data):
    depth = 6
    layers = {
        str(layer): dict(zip(("precision_cfg", "fidelity_cfg"), data.draw(st.sampled_from(stated)), strict=True))
        for layer in range(depth)
    }
    config = read_decoder_json(json.dumps({"decoders": layers}), depth).applied(DevicePresets.get_config("n150"), depth)
    text = write_decoder_json(config, depth)
    again = read_decoder_json(text, depth)
    assert again.findings == [f for f in again.findings if f.id in ("tttv1-uniform", "tttv1-fidelity-below-format")]
    assert len(again.layers) <= len(stated)
    other = again.applied(DevicePresets.get_config("n150", "accuracy"), depth)
    assert tttv1_settings(other, depth) == tttv1_settings(config, depth)
    assert write_decoder_json(other, depth) == text


@pytest.mark.parametrize("file", DEPTHS)
def test_a_real_file_says_the_same_after_writing(file):
    depth, base = DEPTHS[file], DevicePresets.get_config("t3k", "performance")
    config = read_decoder_json(DATA / f"{file}.json", depth).applied(base, depth)
    stated = json.loads((DATA / f"{file}.json").read_text())["decoders"]
    again = json.loads(write_decoder_json(config, depth, lossy=True))["decoders"]
    for layer, sections in stated.items():
        own = again[str(min(int(layer), depth - 1))]
        for section, values in sections.items():
            assert values.items() <= own[section].items()


def test_a_uniform_file_can_become_a_string():
    full = {"precision_cfg": {word.name: "BFP8" for word in words("tensors")}}
    full["fidelity_cfg"] = {word.name: "HIFI2" for word in words("ops")}
    imported = read_decoder_json(json.dumps({"decoders": {"0": full, "1": full}}), 2)
    config = imported.applied(DevicePresets.get_config("n150"), 2)
    assert write_optimizations(config, num_layers=2).startswith("precision_cfg = {ff1_3: bfp8")
    with pytest.raises(ConfigError, match="number of layers"):
        write_optimizations(config)


def expressible():
    formats = {word.value: "bfp8" for word in words("tensors")}
    kernels = {word.value: "hifi4" for word in words("ops")}
    return read_optimizations(written(formats, kernels), 2).applied(DevicePresets.get_config("n150"), 2)


@pytest.mark.parametrize(
    ("path", "value", "finding"),
    [
        ("compute.ff2.math_fidelity", "HiFi3", "tttv1-lossy-kernel"),
        ("compute.qkv_decode.throttle_level", 2, "tttv1-lossy-kernel"),
        ("compute.norm.dst_full_sync_en", True, "tttv1-lossy-kernel"),
        ("compute.o_prefill.packer_l1_acc", False, "tttv1-lossy-kernel"),
        ("compute.lm_head.math_fidelity", "HiFi4", "tttv1-lossy-op"),
        ("precision.lm_head", "BF16", "tttv1-lossy-tensor"),
        ("precision.embedding", "BFP8", "tttv1-lossy-tensor"),
        ("precision.ccl", "BF16", "tttv1-lossy-tensor"),
        ("precision.mlp_activations", "BF16", "tttv1-lossy-activations"),
    ],
)
@pytest.mark.parametrize("write", [write_optimizations, lambda c, **more: write_decoder_json(c, 2, **more)])
def test_what_tttv1_cannot_express_is_named(path, value, finding, write):
    config = expressible()
    assert write(config).findings == ()
    section, group, *name = path.split(".")
    if name:
        config.compute[group] = config.compute_for(group)
        setattr(config.compute[group], name[0], value)
    else:
        setattr(config.precision, group, value)
    with pytest.raises(ConfigError, match=f"{section}.{group}|precision.activations") as caught:
        write(config)
    assert str(caught.value).count("\n") <= 1
    lossy = write(config, lossy=True)
    assert [f.id for f in lossy.findings] == [finding]
    assert ("hifi3" in lossy.lower()) is False


def test_a_layer_that_cannot_be_expressed_is_named():
    config = expressible()
    entry = layer_entry({"select": "1", "compute": {"ff2": {"math_fidelity": "HiFi3"}}})
    config.layers = apply_layers(config, [entry], 2)
    (finding,) = write_decoder_json(config, 2, lossy=True).findings
    assert "in layers 1: compute.ff2.math_fidelity" in finding.what
    with pytest.raises(ConfigError, match="applies to all layers"):
        write_optimizations(config)


def test_json_says_mixed_activations_by_saying_nothing():
    """TTTv1's default is mixed, and its JSON has no word for it."""
    config = read_optimizations("precision_cfg = {activation: mixed}", 2).applied(expressible(), 2)
    assert "activation: mixed" in write_optimizations(config)
    written = write_decoder_json(config, 2)
    assert "ACTIVATION" not in written
    assert list(written.findings) == []


def test_writing_changes_nothing():
    config = expressible()
    before = copy.deepcopy(config)
    write_optimizations(config)
    write_decoder_json(config, 2)
    assert config == before
