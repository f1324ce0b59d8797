# SPDX-License-Identifier: Apache-2.0
"""Which jobs a sweep's axes make, and which axes are refused."""

import pytest

from tt_transformers_v2.config.building import build
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.sweep_schema import SweepConfig
from tt_transformers_v2.hardware import ConfigError
from tt_transformers_v2.sweep.axes import axes_of, combinations


def jobs(*typed, named=(), pairs=()):
    checked = check_overrides(typed, multirun=True).items
    return [" ".join(job.texts) for job in combinations(axes_of(checked, named, pairs))]


def only_value(axes):
    """Key and value of the only override of the only job, and the same read from its text."""
    (job,) = combinations(axes)
    (override,) = job.items
    (again,) = check_overrides(job.texts).items
    assert (again.key, again.value) == (override.key, override.value)
    return override.key, override.value


def test_the_last_axis_turns_fastest_and_single_values_are_in_every_job():
    assert jobs("device=n150,t3k", "task=performance", "workload.batch=1,2") == [
        "device=n150 task=performance workload.batch=1",
        "device=n150 task=performance workload.batch=2",
        "device=t3k task=performance workload.batch=1",
        "device=t3k task=performance workload.batch=2",
    ]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("workload.batch=range(1,4)", ["1", "2", "3"]),
        ("workload.batch=range(1,8,3)", ["1", "4", "7"]),
        ("workload.batch=range(8,1,-3)", ["8", "5", "2"]),
        ("workload.batch=range(4)", ["0", "1", "2", "3"]),
        ("launcher.timeout_minutes=range(1.0,1.3,0.1)", ["1.0", "1.1", "1.2"]),
        ("model.rope_theta=range(-0.3,0.3,0.1)", ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2"]),
        ("launcher.timeout_minutes=range(0,1,0.25)", ["0.0", "0.25", "0.5", "0.75"]),
        ("launcher.timeout_minutes=range(1,0.1,-0.3)", ["1.0", "0.7", "0.4"]),
        ("launcher.timeout_minutes=range(0.1,0.7,0.2)", ["0.1", "0.3", "0.5"]),
        ("workload.batch=choice(1,8)", ["1", "8"]),
        ("workload.batch=sort(8,1,4)", ["1", "4", "8"]),
        ("workload.context=null,256", ["null", "256"]),
        ("runtime.autofit=true,false", ["true", "false"]),
        ("workload.text_file='a b','c,d'", ["'a b'", "'c,d'"]),
        ("precision={mlp_weights: BFP4},{mlp_weights: BFP8}", None),
    ],
)
def test_hydras_grammar_is_expanded(axis, values):
    key = axis.partition("=")[0]
    if values is None:
        with pytest.raises(ConfigError, match="takes one option"):
            jobs(axis)
        return
    assert jobs(axis) == [f"{key}={value}" for value in values]


def test_a_value_keeps_its_meaning_on_the_way_into_a_job():
    awkward = ["a b", "c,d", "it's", "1", "null", "true", "[x]", "{y: 1}", "ü", "a=b", "back\\slash", ""]
    for value in awkward:
        quoted = "'" + value.replace("'", "\\'") + "'"
        typed = check_overrides([f"workload.text_file={quoted}"]).items
        assert only_value(axes_of(typed, [], [])) == ("workload.text_file", value)
        assert only_value(axes_of([], [], [{"workload.text_file": value}])) == ("workload.text_file", value)


def test_layers_can_be_an_axis():
    first, second = '[{select: "0", precision: {ff2: BFP8}}]', "[]"
    axes = axes_of(check_overrides([f"layers={first},{second}"], multirun=True).items, [], [])
    a, b = (job.items[0].value for job in combinations(axes))
    assert (a, b) == ([{"select": "0", "precision": {"ff2": "BFP8"}}], [])


def test_a_glob_takes_the_options_of_its_group():
    assert jobs("device=glob(*)") == [f"device={name}" for name in groups()["device"]]
    assert jobs("device=glob(p150*,exclude=*8)") == ["device=p150", "device=p150x2", "device=p150x4"]


def test_aliases_become_options():
    assert jobs("device=T3000,n150") == ["device=t3k", "device=n150"]


def test_pairs_go_together_and_are_crossed_with_the_other_axes():
    pairs = [{"device": "n150", "model": "llama8b"}, {"device": "T3K", "model": "llama70b"}]
    assert jobs("precision=accuracy,performance", pairs=pairs) == [
        "device=n150 model=llama8b precision=accuracy",
        "device=n150 model=llama8b precision=performance",
        "device=t3k model=llama70b precision=accuracy",
        "device=t3k model=llama70b precision=performance",
    ]


@pytest.mark.parametrize(
    ("pieces", "axes"),
    [
        (["device=n150,t3k"], ["device=n150,t3k"]),
        (["device=n150", "t3k"], ["device=n150,t3k"]),
        (["workload.batch=1", 2, 4, "device=n150", "t3k"], ["workload.batch=1,2,4", "device=n150,t3k"]),
        (["device=glob(p150*", "exclude=*8)", "seed=1"], ["device=glob(p150*,exclude=*8)", "seed=1"]),
        (["workload.batch=range(1", "4)"], ["workload.batch=range(1,4)"]),
        ([], []),
    ],
)
def test_an_axis_that_yaml_split_is_one_again(pieces, axes):
    assert build(SweepConfig, {"axes": pieces}).axes == axes


def test_what_is_typed_replaces_the_axis_of_a_file():
    assert jobs("workload.batch=8", named=["workload.batch=1,2", "device=n150,t3k"]) == [
        "device=n150 workload.batch=8",
        "device=t3k workload.batch=8",
    ]


@pytest.mark.parametrize(
    ("typed", "pairs", "message"),
    [
        (["device=glob(x*)"], [], "matches no device. choices: bh_galaxy"),
        (["workload.batch=glob(*)"], [], "glob chooses among files"),
        (["workload.batch=range(4,4)"], [], "is empty"),
        (["workload.batch=range(5,1)"], [], "is empty"),
        (["launcher.timeout_minutes=range(1.0,1.0,0.1)"], [], "is empty"),
        (["workload.batch=range(1,4,0)"], [], "has a step of 0"),
        (["workload.batch=interval(1,4)"], [], "Write workload.batch=range"),
        (["device=n150,n151"], [], "Did you mean device=n150"),
        (["workload.batch=1,x"], [], "workload.batch must be a whole number"),
        (["workload.batch=range(1,3,0.5)"], [], "workload.batch must be a whole number"),
        (["workload.batsch=1,2"], [], "Did you mean workload.batch"),
        (["device="], [], "device"),
        (
            ["device=n150,t3k"],
            [{"device": "n150", "model": "llama8b"}],
            "device is in sweep.pairs and also set elsewhere",
        ),
        (["device=n150"], [{"device": "n150"}], "device is in sweep.pairs and also set elsewhere"),
        (
            [],
            [{"device": "n150", "model": "llama8b"}, {"device": "t3k"}],
            r"sweep.pairs\[1\] sets device, but the first",
        ),
        ([], [{}], "entry without keys"),
        ([], [{"device": "n150"}, {}], "sets nothing"),
        ([], [{"devise": "n150"}], "Did you mean device"),
        (["seed=range(0,10000000000)"], [], "more values than the 1,000,000 jobs"),
        (["seed=range(0,2000)", "workload.batch=range(1,2000)"], [], "3,998,000 jobs"),
    ],
)
def test_axes_that_cannot_be_are_refused_with_the_reason(typed, pairs, message):
    with pytest.raises(ConfigError, match=message):
        jobs(*typed, pairs=pairs)


def test_every_bad_axis_is_named_at_once():
    with pytest.raises(ConfigError) as refused:
        jobs("device=glob(x*)", "workload.batch=range(2,2)", "seed=interval(1,2)")
    assert len(str(refused.value).splitlines()) == 3
