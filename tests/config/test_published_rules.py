# SPDX-License-Identifier: Apache-2.0
"""Every row of the published table (tests/data/fidelity_rules.csv) that concerns a supported model, against ours.

The table is facts read from tt-metal and tt-transformers; its `source` column says where each row is from. Differences
that are meant stand in conf/rules/differences.yaml, and each of them must really differ.
"""

import csv
import fnmatch
import functools
import re

import pytest

from places import DATA
from tt_transformers_v2.config.conf_folders import read_yaml
from tt_transformers_v2.config.groups import device_types, groups
from tt_transformers_v2.config.kernel_words import find, kernel_settings
from tt_transformers_v2.config.layers import apply_layers, selected_layers
from tt_transformers_v2.config.model_rules import apply_rules, base_name, knobs, name_matches, rules
from tt_transformers_v2.hardware import DevicePresets, PrecisionMode
from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.models.spec import ModelSpec

ROWS = list(csv.DictReader((DATA / "fidelity_rules.csv").open(encoding="utf-8")))
DIFFERENCES = {(d["rule_id"], d["model"], d["group"]) for d in read_yaml("rules/differences.yaml")}
TTTV2_TENSORS = {"w1_w3": "ff1_ff3", "w2": "ff2"}
TTTV2_FORMATS = {"bfloat4_b": "BFP4", "bfloat8_b": "BFP8", "bfloat16": "BF16"}


def models():
    for option in groups()["model"]:
        tree = read_yaml(f"model/{option}.yaml")
        if "vocab_size" in tree:
            yield ModelSpec.uniform(
                **{k: tree[k] for k in ("vocab_size", "hidden_dim", "num_layers", "num_heads", "intermediate_dim")},
                num_kv_heads=tree.get("num_kv_heads"),
                head_dim=tree.get("head_dim"),
                name=tree["name"],
                family=tree.get("family", ""),
            )


MODELS = list(models())
TTTV1_MODELS = [spec for spec in MODELS if name_matches(spec.name, read_yaml("rules/tttv1.yaml")["models"])]


def resolved(spec, mode, device="T3K", rule_set="tttv1"):
    ruled = apply_rules(DevicePresets.get_config(device, mode), spec, mode=PrecisionMode(mode), rule_set=rule_set)
    ruled.config.layers = apply_layers(ruled.config, ruled.layers, spec.num_layers)
    return ruled.config


@functools.cache
def matching(pattern):
    """The names of the supported models that a row's model_match means."""
    name = pattern.split(" (")[0].casefold()
    spellings = [(spec.name, spelling) for spec in TTTV1_MODELS for spelling in (spec.name, base_name(spec.name))]
    return {model for model, spelling in spellings if fnmatch.fnmatchcase(spelling.casefold(), name)}


def holds(config, kind, group, value):
    """Whether a layer's configuration has what a row of TTTv1's table says; None for activations means mixed."""
    if kind == "tensor" and group == "ACTIVATION" and value.startswith("None"):
        mixed = (config.precision.of("attention_activations"), config.precision.of("mlp_activations"))
        return mixed == (DataFormat.BF16, DataFormat.BFP8)
    if kind == "tensor":
        return str(config.precision.of(find("tensors", group).ours)) == value
    settings = config.compute_for(find("ops", group).ours)
    return all(getattr(settings, name) == wanted for name, wanted in kernel_settings(value).items())


def more_specific(row, spec, mode):
    """Whether another row of the table sets the same group for this model and mode with more authority."""
    order = ["base", "perf-generic", "acc-generic", "perf-qwen7b", "acc-llama", "acc-70b", "phi3mini", "json"]

    def rank(other):
        return max(i for i, key in enumerate(order) if other["rule_id"].endswith(key) or key in other["rule_id"])

    for other in ROWS:
        same = other["stack"] == "TTTv1" and other["kind"] == row["kind"] and other["group"] == row["group"]
        applies = other["mode"] in ("*", "(defaults)", mode) and spec.name in matching(other["model_match"])
        if same and applies and rank(other) > rank(row):
            return True
    return False


TTTV1_ROWS = [r for r in ROWS if r["stack"] == "TTTv1" and r["kind"] in ("tensor", "op") and r["rule_id"] != "json"]


@pytest.mark.parametrize("mode", ["accuracy", "performance"])
@pytest.mark.parametrize("spec", TTTV1_MODELS, ids=lambda spec: spec.name)
def test_uniform_rows(spec, mode):
    compared = 0
    config = resolved(spec, mode)
    for row in TTTV1_ROWS:
        if row["mode"] not in ("(defaults)", mode) or spec.name not in matching(row["model_match"]):
            continue
        if row["rule_id"] == "acc-generic" and more_specific_list(spec):
            continue
        names, groups = (base_name(spec.name), "*"), (row["group"], "*")
        known = {(row["rule_id"], name, group) for name in names for group in groups}
        if known & DIFFERENCES or more_specific(row, spec, mode) or overridden_by_size(spec, row, mode):
            continue
        if row["rule_id"] == "perf-generic" and base_name(spec.name) == "Qwen2.5-7B":
            continue  # the table's own note: FF stays BFP8 for this model
        value = row["value"].partition(" (")[0]  # BFP8 (falls to Llama-3* branch)
        assert holds(config, row["kind"], row["group"], value), row
        compared += 1
    assert compared


def more_specific_list(spec):
    """acc-generic is for everything else than the models of the other accuracy rows."""
    others = [r for r in ROWS if r["rule_id"] in ("acc-llama", "acc-70b", "acc-70b-gap")]
    return any(spec.name in matching(row["model_match"]) for row in others)


def overridden_by_size(spec, row, mode):
    """The parameter-count rule gives 70B+ models what the table gives to four names, all but Llama-3.3-70B."""
    large = spec.num_parameters >= 70e9 and base_name(spec.name) != "Llama-3.3-70B"
    return mode == "accuracy" and large and row["group"] in ("FF1_FF3", "LI_FF1_FF3")


def described(row):
    """The supported model that a per-layer file is for, or None."""
    return next((spec for spec in MODELS if base_name(spec.name) == base_name(row["model_match"])), None)


JSON_ROWS = [r for r in ROWS if r["rule_id"] == "json" and described(r) and r["mode"] in ("accuracy", "performance")]


@pytest.mark.parametrize("row", JSON_ROWS, ids=lambda r: f"{r['model_match']}-{r['mode']}-{r['group']}")
def test_per_layer_rows(row):
    spec = described(row)
    config = resolved(spec, row["mode"])
    if (row["rule_id"], row["model_match"], row["group"]) in DIFFERENCES:
        assert holds(config.for_layer(spec.num_layers - 1), row["kind"], row["group"], row["value"])
        return
    for layer in selected_layers(re.sub(r" .*", "", row["layers"]), spec.num_layers):
        assert holds(config.for_layer(layer), row["kind"], row["group"], row["value"]), layer


def tttv2_holds(config, row):
    group, value = row["group"], row["value"]
    if row["kind"] == "tensor":
        wanted = "BF16" if value.startswith("bf16") else TTTV2_FORMATS[value]
        return str(config.precision.of(TTTV2_TENSORS.get(group, group))) == wanted
    ops = {"ff1_3": ["ff1_ff3"], "li_qkv": ["qkv"], "sdpa": ["sdpa"], "li_o": ["o"], "LM head": ["lm_head"]}
    ops |= {
        "decode FF (perf tuning)": ["ff1_ff3", "ff2"],
        "decode QKV/O/SDPA (perf tuning)": ["qkv_decode", "o_decode"],
    }
    for op in ops[group]:
        settings = config.compute_for(op)
        fidelity = str(settings.math_fidelity).casefold()
        if not value.casefold().startswith(fidelity):
            return False
        if "fp16 dest" in value and settings.fp32_dest_acc_en:
            return False
        if "fp32 dest" in value and not settings.fp32_dest_acc_en:
            return False
        if ("packer_l1_acc False" in value) == settings.packer_l1_acc:
            return False
    return True


@pytest.mark.parametrize(
    "row",
    [
        r
        for r in ROWS
        if r["stack"] == "TTTv2"
        and r["kind"] != "knob"
        and (r["rule_id"], r["model_match"], r["group"]) not in DIFFERENCES
    ],
    ids=lambda r: f"{r['model_match']}-{r['mode']}-{r['group']}",
)
def test_recipes_of_tttv2(row):
    (spec,) = [s for s in MODELS if s.name.casefold().startswith(row["model_match"].casefold())][:1]
    modes = [row["mode"]] if row["mode"] in ("accuracy", "performance") else ["accuracy", "performance"]
    if row["value"].startswith("bf16 in accuracy"):
        modes = ["accuracy"]
    device = next(name for name in device_types() if name in row["device"])
    for mode in modes:
        assert tttv2_holds(resolved(spec, mode, device, "tttv2"), row), mode


def test_knobs_follow_device_and_model_as_the_table_says():
    (llama,) = [spec for spec in MODELS if spec.name == "Llama-3.1-8B-Instruct"]
    (qwen,) = [spec for spec in MODELS if spec.name == "Qwen2.5-7B-Instruct"]
    for device, spec, expected in [
        ("N150", llama, {"prefill_len_cutoff": 512, "lm_head_max_columns_per_core": 668}),
        ("T3K", llama, {"prefill_len_cutoff": 1024, "lm_head_max_columns_per_core": 668}),
        ("N300", qwen, {"prefill_len_cutoff": 512, "lm_head_max_columns_per_core": 668}),
        ("P150", llama, {"prefill_len_cutoff": 512, "lm_head_max_columns_per_device": 16032}),
    ]:
        assert knobs(DevicePresets.get_config(device), spec) == expected


def test_every_difference_names_a_row_of_the_table():
    for rule_id, model, group in DIFFERENCES:
        rows = [row for row in ROWS if row["rule_id"] == rule_id and group in (row["group"], "*")]
        assert any(model == "*" or model in row["model_match"] or row["model_match"][0] == "*" for row in rows), rule_id


def test_all_rules_can_be_read():
    assert len(rules("tttv1")) > len(rules("none")) >= 2
