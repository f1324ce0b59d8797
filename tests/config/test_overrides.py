# SPDX-License-Identifier: Apache-2.0
import pytest

from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.hardware import ConfigError


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("device=n151", "Did you mean device=n150?"),
        ("devise=t3k", "Did you mean device?"),
        ("+devise=t3k", "Did you mean device?"),
        ("++precision.mlp_weight=BFP8", "nothing can be added"),
        ("+device=t3k", "Write device=t3k"),
        ("~device", "every key is needed"),
        ("precision.mlp_weight=BFP8", "Did you mean precision.mlp_weights?"),
        ("precision.mlp_weights=BFP5", "Did you mean BFP"),
        ("precision.mlp_weights=bfp88", "Did you mean BFP8?"),
        ("compute.mpl.math_fidelity=LoFi", "Did you mean compute.mlp?"),
        ("compute.mlp.math_fidelity=HiFi1", "Did you mean HiFi"),
        ("compute.mlp.math_fidelity.x=HiFi2", "is a value, not a section"),
        ("compute.mlp=LoFi", "Set its keys"),
        ("task=accurracy", "Did you mean accuracy?"),
        ("workload.tokens=many", "must be a whole number"),
        ("workload.tokens=1.5", "must be a whole number"),
        ("model.name=12e5", "Put it in quotes"),
        ("workload.text_file=12e5", "must be text"),
        ("device=[t3k,n150]", "takes one option"),
        ("device=", "choices: bh_galaxy, n150"),
        ("device@compute=t3k", "Write device=OPTION"),
        ("device=t3k,n150", "--multirun runs them all"),
        ("seed=1,2", "--multirun runs them all"),
        ("workload.tokens", "Write workload.tokens=VALUE"),
        ("=5", "Write KEY=VALUE"),
        ("model.path={", "Write KEY=VALUE"),
    ],
)
def test_a_mistake_is_named_with_its_fix(override, hint):
    with pytest.raises(ConfigError) as caught:
        check_overrides([override])
    assert hint in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_every_mistake_is_reported():
    with pytest.raises(ConfigError) as caught:
        check_overrides(["device=n151", "precision.kv=BFP8", "seed=x"])
    assert len(str(caught.value).splitlines()) == 3


def test_the_same_key_twice_is_refused():
    with pytest.raises(ConfigError, match="given twice"):
        check_overrides(["device=t3k", "device=n150"])


def test_options_are_found_in_any_case():
    checked = check_overrides(["device=T3K", "model=LLAMA70B", "hydra.run.dir=X"])
    assert checked.texts == ["device=t3k", "model=llama70b", "hydra.run.dir=X"]
    assert checked.typed == set()


def test_sweeps_are_checked_value_by_value():
    checked = check_overrides(["device=N150,t3k", "compute.mlp.math_fidelity=LoFi,HiFi2"], multirun=True)
    assert checked.texts[0] == "device=n150,t3k"
    assert checked.typed == {"compute.mlp.math_fidelity"}
    with pytest.raises(ConfigError, match="Did you mean HiFi"):
        check_overrides(["compute.mlp.math_fidelity=LoFi,HiFi9"], multirun=True)
    assert check_overrides(["device=glob(*)", "workload.batch=range(1,4)"], multirun=True).texts


def test_typed_paths_are_the_leaves():
    texts = ["device=t3k", "compute.mlp={math_fidelity: LoFi, packer_l1_acc: true}", "seed=3", "hydra.verbose=true"]
    assert check_overrides(texts).typed == {"compute.mlp.math_fidelity", "compute.mlp.packer_l1_acc", "seed"}
