# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tt_transformers_v2.experiments.configuration import resolve
from tt_transformers_v2.experiments.overrides import check_overrides
from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.hardware.composition import compose, groups


def experiment(*overrides):
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


def test_a_typed_value_beats_the_rule_which_says_so():
    resolved = experiment("device=t3k", "precision=accuracy", "model=llama70b", "precision.mlp_weights=BFP8")
    assert resolved.hardware.precision.mlp_weights == "BFP8"
    assert any(effect.overruled_by == "precision.mlp_weights" for effect in resolved.effects)


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
    assert [finding.id for finding in warned] == ["wormhole-hifi4-fp32"]
    assert experiment("precision=accuracy", "device=p150").findings == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("device=t3k", "parallelism.tensor_parallel_size=8"), "do not divide"),
        (("device=n150", "parallelism.tensor_parallel_size=2"), "N150 has 1 chip"),
        (("workload.batch=64",), "takes 32 users"),
        (("memory.kv_cache_placement=L1", "workload.batch=32", "workload.context=4096"), "L1 holds"),
        (("workload.tokens=0",), "at least 1"),
        (("workload.max_seconds=0",), "must be positive"),
        (("model=hf",), "model.path"),
        (("model.num_heads=7",), "multiple of num_kv_heads"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        experiment(*overrides)


@pytest.mark.parametrize("device", groups()["device"])
@pytest.mark.parametrize("precision", groups()["precision"])
def test_every_device_and_precision_resolves_with_every_model(device, precision):
    for model in groups()["model"]:
        if model != "hf":
            resolved = experiment(f"device={device}", f"precision={precision}", f"model={model}")
            assert resolved.hardware.parallelism.chips == resolved.hardware.spec.chips
