# SPDX-License-Identifier: Apache-2.0
"""The fast composer against Hydra itself."""

import itertools

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tt_transformers_v2.config.building import build
from tt_transformers_v2.config.composition import compose, compose_by_hydra, compose_with_origins
from tt_transformers_v2.config.conf_folders import conf_dirs
from tt_transformers_v2.config.experiment_schema import ExperimentConfig
from tt_transformers_v2.config.groups import groups, option
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.quick_composition import NotCovered, compose_choices
from tt_transformers_v2.config.yaml_files import parse_yaml
from tt_transformers_v2.hardware import ConfigError

# Every option of every group, in as many lines as the largest group has options.
LINES = [
    [f"{group}={names[number % len(names)]}" for group, names in groups().items() if names]
    for number in range(max(map(len, groups().values())))
]
PAIRS = [*itertools.product(("device=t3k", "device=p100"), (f"precision={name}" for name in groups()["precision"]))]


@pytest.mark.parametrize("overrides", [[], *LINES, *map(list, PAIRS)], ids=" ".join)
def test_the_fast_composer_equals_hydra(overrides):
    assert_same_objects(overrides)


def assert_same_objects(overrides):
    """With and without Hydra and OmegaConf, the same typed configuration."""
    checked = check_overrides(overrides)
    quick, hydras = (
        build(ExperimentConfig, compose(checked)),
        OmegaConf.to_object(compose_by_hydra(checked.hydra_texts)),
    )
    assert isinstance(hydras, ExperimentConfig)
    assert quick == hydras
    assert repr(quick) == repr(hydras)  # an int and a float may be equal


@pytest.mark.parametrize(
    "overrides",
    [
        ["compute.mlp.math_fidelity=HiFi3", "workload.batch=4", "model.path=null", "calibration.x='a b'"],
        [
            "compute.mlp={math_fidelity: HiFi4, packer_l1_acc: no}",
            "memory={use_width_sharding: 0}",
            "model.rope_scaling=null",
        ],
        ["seed='5'", "workload.max_seconds=3", "backend.tensor_parallel=off", "mode=CUSTOM", "model.name='5'"],
        ["runtime.programs={ff1_ff3: {in0_block_w: 4}}", "runtime.programs.ff2.in0_block_w=2"],
        ["workload.texts=[a.txt,b.txt]"],
        ["layers=[{select: 0, precision: {ff2: BFP8}}]", "search.space={ff2: [BFP8, BFP4/lofi]}"],
        ["precision=custom", "device=t3k", "device.sources={}", "device.aliases=[]", "device.chip.arch=blackhole"],
    ],
    ids=" ".join,
)
def test_typed_values_are_set_as_hydra_sets_them(overrides):
    assert_same_objects(overrides)


def test_every_value_knows_its_file():
    origins = compose_with_origins(["device=t3k", "precision=accuracy"]).origins
    assert origins["device.chip.dram_banks"] == "chip/wormhole.yaml"
    assert origins["device.mesh_shape"] == "device/t3k.yaml"
    assert origins["compute.mlp.math_fidelity"] == "precision/accuracy.yaml"
    assert origins["compute.mlp.fp32_dest_acc_en"] == "tuning/device_precision/t3k_accuracy.yaml"
    assert origins["task"] == "config.yaml"


def test_results_are_the_callers_own():
    compose()["device"]["mesh_shape"][0] = 99
    assert compose()["device"]["mesh_shape"] == [1, 1]


def test_what_it_does_not_cover_is_left_to_hydra():
    with pytest.raises(NotCovered):
        compose_choices(conf_dirs(), {"device": "n151"})
    with pytest.raises(NotCovered):
        compose_choices(conf_dirs(), {"nonsense": "x"})


SCALARS = st.one_of(
    st.from_regex(r"[-+]?[0-9_.:]{1,6}([eE][-+]?[0-9]{1,2})?", fullmatch=True),
    st.from_regex(r"0[xXbo]?[0-9a-f_]{1,4}", fullmatch=True),
    st.sampled_from(
        ["yes", "Off", "TRUE", "y", "null", "~", "2024-01-01", "12:30:45", ".inf", "-.INF", ".nan", "1e-5"]
    ),
)


@settings(max_examples=500, deadline=None)
@given(SCALARS)
@example("08")
@example("010")
@example("0x10")
@example("1:30")
@example("1_000")
@example("70e9")
def test_a_scalar_of_a_file_is_what_omegaconf_reads(text):
    assert repr(read(lambda: parse_yaml(f"key: {text}")["key"])) == repr(
        read(lambda: OmegaConf.create(f"key: {text}").key)
    )


def read(reading):
    try:
        return reading()
    except (ValueError, ConfigError, yaml.YAMLError, OmegaConfBaseException):
        return "refused"


def test_unknown_options_name_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean device=n150"):
        option("device", "N15O")
