# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve, resolve_or_refuse
from tt_transformers_v2.config.value_paths import get_value
from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.hardware.op_table import OP_GROUPS
from tt_transformers_v2.hardware.schema import PrecisionConfig


def experiment(*overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


def test_a_typed_value_beats_the_rule_which_says_so():
    resolved = experiment("device=t3k", "precision=accuracy", "model=llama70b", "precision.mlp_weights=BFP8")
    assert resolved.hardware.precision.mlp_weights == "BFP8"
    assert any(effect.overruled_by == "precision.mlp_weights" for effect in resolved.effects)


LEAVES = {f"precision.{group}": ("BFP4", "BF16") for group in field_types(PrecisionConfig)} | {
    f"compute.{group}.math_fidelity": ("LoFi", "HiFi3") for group in OP_GROUPS
}


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.parametrize("model", ["llama1b", "llama8b", "llama70b", "qwen2_5_7b", "smollm2_135m"])
def test_whatever_is_typed_is_what_resolves_in_every_layer(model, path):
    """Rules set coarse groups and layers; no finer value that the user typed may be lost to them."""
    for mode in ("accuracy", "performance"):
        for value in LEAVES[path]:
            resolved = experiment("device=t3k", f"model={model}", f"precision={mode}", f"{path}={value}").hardware
            for own in (resolved, *resolved.layers.values()):
                assert str(get_value(own, path)) == value


def test_typed_fidelity_of_the_mlp_means_the_whole_mlp():
    low, high = (experiment(f"compute.mlp.math_fidelity={name}") for name in ("LoFi", "HiFi2"))
    assert low.hardware.compute_for("ff2").math_fidelity == "LoFi"
    assert high.hardware.compute_for("ff1_ff3").math_fidelity == "HiFi2"
    assert high.hardware.compute_for("lm_head").math_fidelity == "HiFi2"
    assert low.hardware.compute_for("lm_head").math_fidelity == "HiFi2"


def test_the_hash_follows_what_is_resolved_not_how_it_was_written():
    assert experiment().config_hash() == experiment("device=N150", "precision=performance").config_hash()
    assert experiment().config_hash() == experiment("precision.mlp_weights=BFP4", "precision.ff2=BFP8").config_hash()
    assert experiment().config_hash() != experiment("seed=1").config_hash()


def test_the_resolved_configuration_is_plain_json():
    tree = experiment("model=llama8b").to_dict()
    assert json.loads(json.dumps(tree)) == tree
    assert tree["compute"]["qkv_decode"]["math_fidelity"] == "HiFi2"
    assert tree["model"]["rope_scaling"]["factor"] == 8.0


def test_wormhole_hifi4_with_fp32_accumulation_is_warned_about_and_blackhole_is_not():
    warned = experiment("precision=accuracy").findings
    assert "wormhole-hifi4-fp32" in [finding.id for finding in warned]
    on_blackhole = experiment("precision=accuracy", "device=p150").findings
    assert "wormhole-hifi4-fp32" not in [finding.id for finding in on_blackhole]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("device=t3k", "parallelism.tensor_parallel_size=8"), "do not divide"),
        (("device=n150", "parallelism.tensor_parallel_size=2"), "N150 has 1 chip"),
        (("workload.batch=64",), "takes at most 32 users"),
        (("memory.kv_cache_placement=L1", "workload.batch=32", "workload.context=4096"), "L1 holds"),
        (("workload.tokens=0",), "at least 2"),
        (("workload.max_seconds=0",), "must be at least"),
        (("parallelism.tensor_parallel_size=0",), "must be at least 1"),
        (("device.mesh_shape=[1]",), "two whole numbers"),
        (("device.chip.dram_bandwidth=0",), "must be at least"),
        (("model=hf",), "model.path"),
        (("model.num_heads=7",), "multiple of num_kv_heads"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    checked = check_overrides(overrides)
    with pytest.raises(ConfigError, match=message):
        resolve_or_refuse(compose(checked.texts), checked.typed)


@pytest.mark.parametrize("more", [(), ("runtime.dram_readers_per_bank=2",), ("precision.embedding=BFP8",)])
def test_a_split_that_ttnn_has_no_mesh_for_can_still_be_resolved(more):
    split = ("parallelism.tensor_parallel_size=16", "parallelism.data_parallel_size=2")
    found = experiment("device=tg", "model=llama8b", *split, *more)
    assert not found.errors


REASONS_A_HUMAN_ACCEPTS = {"dram-overflow"}


@pytest.mark.parametrize("device", groups()["device"])
@pytest.mark.parametrize("precision", groups()["precision"])
def test_every_device_and_precision_resolves_with_every_model(device, precision):
    for model in groups()["model"]:
        if model == "hf":
            continue
        resolved = experiment(f"device={device}", f"precision={precision}", f"model={model}")
        assert resolved.hardware.parallelism.chips == resolved.hardware.spec.chips
        assert {finding.id for finding in resolved.errors} <= REASONS_A_HUMAN_ACCEPTS
        for finding in resolved.errors:
            assert resolved.spec.num_parameters > 0.4 * dram_of(resolved), finding


def dram_of(resolved):
    """DRAM in bytes of the chips that hold one copy of the model."""
    parallelism = resolved.hardware.parallelism
    return resolved.hardware.spec.chip.dram_size * parallelism.tensor_parallel_size


def test_what_does_not_fit_says_by_how_much_and_where_it_would():
    (found,) = experiment("model=llama70b", "device=n150").errors
    assert found.id == "dram-overflow"
    assert "GiB" in found.what
    assert "device=t3k" in found.fix or "device=p" in found.fix


def test_a_chunk_nobody_published_is_computed_and_says_how():
    resolved = experiment("device=p150", "model=llama3b")
    (effect,) = [effect for effect in resolved.effects if effect.rule == "prefill-chunk-computed"]
    assert resolved.hardware.max_prefill_chunk_size == effect.value > 4096
    assert "KiB per token" in effect.why
    typed = experiment("device=p150", "model=llama3b", "device.max_prefill_chunk_size=2048")
    assert typed.hardware.max_prefill_chunk_size == 2048


def test_layers_of_the_users_own_win_over_everything_and_rules_layers_do_not():
    own = experiment("model=llama8b", 'layers=[{select: "0..1,-1", precision: {mlp_weights: BF16}}]')
    assert [str(own.hardware.for_layer(i).precision.of("ff2")) for i in (0, 1, 2, 31)] == [
        "BF16",
        "BF16",
        "BFP8",
        "BF16",
    ]
    typed = experiment("model=llama8b", "precision.mlp_weights=BF16")
    assert typed.hardware.for_layer(31).precision.of("ff1_ff3") == "BF16"
    ruled = experiment("model=llama8b")
    assert ruled.to_dict()["layers"] == [
        {"select": "31", "precision": {"ff1_ff3": "BFP8"}, "compute": {}},
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ('[{select: "32", precision: {ff2: BFP8}}]', "no layer 32"),
        ('[{select: "0..40", precision: {ff2: BFP8}}]', "no layer 40"),
        ('[{select: "a", precision: {ff2: BFP8}}]', "cannot read"),
        ('[{select: "3..1", precision: {ff2: BFP8}}]', "selects nothing"),
        ('[{select: "0", precision: {ff4: BFP8}}]', "Did you mean ff2"),
        ('[{select: "0", precision: {lm_head: BFP8}}]', "unknown key"),
        ('[{select: "0", compute: {mpl: {math_fidelity: LoFi}}}]', "Did you mean mlp"),
        ('[{select: "0", compute: {mlp: {math_fidelity: LoFy}}}]', "Did you mean LoFi"),
        ('[{select: "0"}]', "changes nothing"),
        ("[{precision: {ff2: BFP8}}]", "must name layers"),
        ("[3]", "must be a mapping"),
    ],
)
def test_bad_layer_entries_are_refused(layers, message):
    with pytest.raises(ConfigError, match=message):
        experiment("model=llama8b", f"layers={layers}")


def test_rule_sets_can_be_chosen():
    assert experiment("model=llama8b").hardware.for_layer(31).precision.of("ff1_ff3") == "BFP8"
    assert experiment("model=llama8b", "model_rules=none").layers == []
    recipe = experiment("model=mistral7b", "precision=accuracy", "model_rules=tttv2")
    assert recipe.hardware.precision.of("lm_head") == "BF16"
