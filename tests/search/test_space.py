# SPDX-License-Identifier: Apache-2.0
import pytest
from searching import resolved

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.search_schema import Objective
from tt_transformers_v2.hardware.enums import DataFormat, MathFidelity
from tt_transformers_v2.run.performance import predict
from tt_transformers_v2.search.costs import measure_costs, step_us, worth_measuring
from tt_transformers_v2.search.space import Place, configured, read_option, read_space, with_assignment

SPACE = {"ff1_ff3": ["BF16/HIFI2", "BFP8/HIFI2", "BFP4/LOFI"], "wo": ["BF16/HIFI2", "BFP4/LOFI"]}


def experiment(*overrides):
    from tt_transformers_v2.config.composition import compose
    from tt_transformers_v2.config.overrides import check_overrides
    from tt_transformers_v2.config.resolve import resolve_or_refuse

    checked = check_overrides(["task=search", *overrides])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def test_an_option_is_a_format_and_a_kernel_of_tttv1():
    option = read_option("BFP4/LOFI", "here")
    assert option.format is DataFormat.BFP4
    assert dict(option.kernel) == {
        "math_fidelity": MathFidelity.LoFi,
        "math_approx_mode": False,
        "fp32_dest_acc_en": False,
        "packer_l1_acc": True,
    }


def test_an_option_may_set_a_format_or_a_fidelity_alone():
    assert read_option("BFP8", "here").kernel == ()
    assert read_option("/HiFi3", "here").format is None
    assert dict(read_option("/HiFi3", "here").kernel) == {"math_fidelity": MathFidelity.HiFi3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BFP5", "BFP4"),
        ("BFP4/LOFY", "LOFI"),
        ("", "not an option"),
        ("/", "not an option"),
        (3, "not an option"),
        ("bfp4", "BFP4"),
    ],
)
def test_a_bad_option_names_the_nearest(text, said):
    with pytest.raises(ConfigError, match=said):
        read_option(text, "search.space.ff2")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"ff3": ["BFP8", "BFP4"]}, "ff2|ff1_ff3"),
        ({"ff2": ["BFP8"]}, "nothing to choose"),
        ({"ff2": ["BFP8", "BFP8"]}, "twice"),
        ({"ff2": "BFP8"}, "list"),
        ({}, "nothing to choose"),
    ],
)
def test_a_bad_space_is_refused(space, said):
    with pytest.raises(ConfigError, match=said):
        read_space(space, 4)


def test_an_assignment_reaches_its_layers_and_no_others():
    found = experiment("device=n150", "model=llama1b", "precision=custom")
    space = read_space(SPACE, found.spec.num_layers)
    chosen = space.base() | {Place(3, "ff1_ff3"): space.options["ff1_ff3"][2]}
    hardware = configured(found.hardware, chosen, found.spec.num_layers)
    for layer in range(found.spec.num_layers):
        own = hardware.for_layer(layer)
        assert own.precision.of("ff1_ff3") == ("BFP4" if layer == 3 else "BF16")
        assert own.compute_for("ff1_ff3").math_fidelity == ("LoFi" if layer == 3 else "HiFi2")
        assert own.precision.of("wo") == "BF16"
        assert own.precision.of("ff2") == found.hardware.precision.of("ff2")
        assert own.compute_for("o_decode") == own.compute_for("o_prefill") == own.compute_for("o")
    assert found.hardware.precision.of("ff1_ff3") == "BFP8"


def test_layers_that_differ_elsewhere_stay_so():
    found = experiment("device=n150", "model=llama1b", "layers=[{select: 2, precision: {ff2: BFP4}}]")
    space = read_space(SPACE, found.spec.num_layers)
    hardware = configured(found.hardware, space.base(), found.spec.num_layers)
    assert hardware.for_layer(2).precision.of("ff2") == "BFP4"
    assert hardware.for_layer(2).precision.of("wo") == "BF16"
    assert hardware.for_layer(1).precision.of("ff2") == found.hardware.precision.of("ff2")


@pytest.mark.parametrize("device", ["n150", "t3k", "p150"])
def test_savings_of_single_changes_add_up_to_the_prediction_of_all(device):
    found = experiment(f"device={device}", "model=llama8b")
    space = read_space(SPACE, found.spec.num_layers)
    costs = measure_costs(found, space, Objective.decode)
    chosen = space.base()
    for place in list(chosen)[::3]:
        chosen[place] = space.options[place.site][-1]
    assert costs.time_us(chosen) == pytest.approx(step_us(with_assignment(found, chosen), Objective.decode), rel=1e-9)
    assert costs.base_us == pytest.approx(predict(with_assignment(found, space.base())).speed.decode_us)


def test_what_saves_nothing_is_not_measured():
    found = experiment("device=n150", "model=llama8b")
    space = read_space({"ff2": ["BFP8/HIFI2", "BFP8/LOFI", "BFP4/LOFI"]}, found.spec.num_layers)
    wanted = worth_measuring(space, measure_costs(found, space, Objective.decode))
    # Wormhole's BFP8 decode is bound by DRAM: LoFi gains nothing there.
    assert {option.text for _, option in wanted} == {"BFP4/LOFI"}


def test_a_space_without_gain_is_refused():
    found = experiment("device=n150", "model=llama8b")
    space = read_space({"ff2": ["BFP4/LOFI", "BFP8/HIFI2"]}, found.spec.num_layers)
    with pytest.raises(ConfigError, match="what-if"):
        worth_measuring(space, measure_costs(found, space, Objective.decode))


def test_the_default_space_is_read(tiny_model):
    found = resolved(tiny_model)
    assert len(read_space(found.config.search.space, 2).places()) == 2 * 5
