# SPDX-License-Identifier: Apache-2.0
"""Rounding among the options of a search: which options there are, what is worth measuring, and what is refused."""

from dataclasses import replace
from random import Random
from string import ascii_letters

import pytest
from rounding_searches import BOTH, TEXT
from searching import resolved, search

from quantize.tiny_llama import write_model
from tt_transformers_v2.accuracy.evaluation_text import EvaluationTokens
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.config.search_schema import Objective, Rounding
from tt_transformers_v2.quantize import chosen_matrices
from tt_transformers_v2.run.runner import run
from tt_transformers_v2.search.costs import measure_costs, worth_measuring
from tt_transformers_v2.search.front import Effect, assignment_after, spread, walk
from tt_transformers_v2.search.roundings import with_roundings
from tt_transformers_v2.search.space import Place, read_option, read_space
from tt_transformers_v2.search.subject import open_subject

EITHER = [Rounding.nearest, Rounding.calibrated]
SPACE = {"ff2": ["BF16/HIFI2", "BFP4/LOFI"], "kv_cache": ["BFP8", "BFP4"], "lm_head": ["BFP8", "BFP4"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def experiment(*overrides):
    checked = check_overrides(["task=search", "device=n150", "model=llama1b", *overrides])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def texts(options):
    return [option.text for option in options]


def test_each_option_of_layers_weights_in_a_block_format_comes_in_each_rounding():
    hardware, space = experiment("precision=custom").hardware, read_space(SPACE, 16)
    both = with_roundings(space, EITHER, hardware)
    assert texts(both.options["ff2"]) == ["BF16/HIFI2", "BFP4/LOFI calibrated", "BFP4/LOFI"]
    # Neither a cache nor the head of the whole model is calibrated.
    assert texts(both.options["kv_cache"]) == ["BFP8", "BFP4"]
    assert texts(both.options["lm_head"]) == ["BFP8", "BFP4"]
    assert with_roundings(space, EITHER[::-1], hardware) == both
    alone = with_roundings(space, [Rounding.calibrated], hardware)
    assert texts(alone.options["ff2"]) == ["BF16/HIFI2", "BFP4/LOFI calibrated"]
    assert with_roundings(space, [Rounding.nearest], hardware) is space


def test_an_option_without_a_format_has_that_of_the_configuration():
    space = read_space({"ff2": ["/HiFi4", "/HiFi2"]}, 16)
    in_blocks = experiment("precision=custom", "precision.ff2=BFP8").hardware
    assert len(with_roundings(space, EITHER, in_blocks).options["ff2"]) == 4
    plain = ("precision=custom", "precision.ff2=BF16")
    with pytest.raises(ConfigError, match=r"no option of search\.space has layers' weights in BFP8 or BFP4"):
        with_roundings(space, EITHER, experiment(*plain).hardware)
    one = experiment(*plain, "layers=[{select: 3, precision: {ff2: BFP4}}]").hardware
    assert len(with_roundings(space, EITHER, one).options["ff2"]) == 4


def test_both_roundings_are_worth_measuring_where_one_is_and_that_of_the_base_beside_it():
    found = experiment()
    options = ["BFP8/HIFI2", "BFP8/LOFI", "BFP4/LOFI"]  # the second saves nothing over the first
    space = with_roundings(read_space({"ff2": options}, 16), EITHER, found.hardware)
    wanted = worth_measuring(space, measure_costs(found, space, Objective.decode))
    assert space.base()[Place(0, "ff2")].text == "BFP8/HIFI2 calibrated"
    assert [option.text for place, option in wanted if place.layer == 0] == [
        "BFP8/HIFI2",
        "BFP4/LOFI calibrated",
        "BFP4/LOFI",
    ]


def test_rounding_alone_saves_nothing_and_is_not_searched():
    found = experiment()
    space = with_roundings(read_space({"ff2": ["BFP4/LOFI", "BFP8/HIFI2"]}, 16), EITHER, found.hardware)
    with pytest.raises(ConfigError, match=r"nothing in search\.space is predicted to be faster"):
        worth_measuring(space, measure_costs(found, space, Objective.decode))


def test_the_better_rounding_is_taken_and_one_that_betters_the_base_before_all_else():
    eight, four, other = (read_option(text, "") for text in ("BFP8", "BFP4", "BFP4/HiFi2"))
    better, worse = Place(0, "ff2"), Place(1, "ff2")
    effects = {
        better: [Effect(eight, 0.0, -0.25), Effect(four, 8.0, 0.5), Effect(other, 8.0, 1.0)],
        worse: [Effect(eight, 0.0, 0.25), Effect(four, 8.0, 3.0), Effect(other, 8.0, 2.0)],
    }
    steps = walk(effects)
    assert [(step.place, step.option, step.saves_us, step.kl) for step in steps] == [
        (better, eight, 0.0, -0.25),
        (better, four, 8.0, 0.5),
        (worse, other, 16.0, 2.5),
    ]
    assert assignment_after({}, steps, 3) == {better: four, worse: other}
    for points in range(2, 6):
        chosen = spread(steps, points)
        assert {0, 3} <= set(chosen) <= {0, 1, 2, 3}
    assert set(spread(steps[:1], 4)) == {0, 1}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.rounding=[]"], "search.rounding is empty"),
        (["search.rounding=[nearest,nearest]"], "search.rounding lists one twice"),
        (["search.rounding=[calibratd]"], r"'calibratd' is not a Rounding(?s:.)*calibrated"),
        (["search.rounding=nearest"], "must be a list"),
        ([BOTH, "quantize.weights=DIR"], "quantize.weights is set, but task=search measures nothing with them"),
        ([BOTH, "quantize.calibrated={ff2: all}"], "task=search chooses the layers itself"),
    ],
)
def test_settings_that_cannot_be_are_refused(model, overrides, said):
    with pytest.raises(ConfigError, match=said):
        resolved(model, *overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["quantize.skip=0"], "64 of 64 tokens that the search measures on are in the text to calibrate on"),
        (["quantize.skip=64"], "32 of 64 tokens that the search measures on are in the text to calibrate on"),
        (["quantize.texts=[nowhere]"], "quantize.texts: no text or file is named"),
    ],
)
def test_a_text_that_cannot_be_calibrated_on_is_refused(model, tmp_path, overrides, said):
    given = {override.partition("=")[0] for override in overrides}
    rest = [each for each in TEXT if each.partition("=")[0] not in given]
    with pytest.raises(ConfigError, match=said):
        search(model, tmp_path, BOTH, *rest, *overrides)


def test_a_text_that_is_too_short_is_refused_with_what_the_search_uses_of_it(model, tmp_path):
    for length, refused in ((448, False), (447, True)):  # 128 for the search, 256 and 64
        (tmp_path / "text.txt").write_text("".join(Random(0).choices(ascii_letters, k=length)))
        lines = (BOTH, *TEXT, f"workload.text_file={tmp_path}/text.txt", f"quantize.texts=[{tmp_path}/text.txt]")
        if refused:
            with pytest.raises(ConfigError, match="ask for 256 and 64 of each text after the first 128"):
                open_subject(resolved(model, *lines))
        else:
            assert open_subject(resolved(model, *lines)).calibrated.text.tokens.count == 256


def test_few_tokens_are_said_and_fewer_than_a_tenth_of_the_inputs_refused(model, monkeypatch):
    assert open_subject(resolved(model, BOTH, *TEXT)).calibrated.warnings == []
    few = open_subject(resolved(model, BOTH, "quantize.tokens=96", "quantize.window=32"))
    assert [line.split()[0] for line in few.calibrated.warnings] == ["wo"]  # which has 128 inputs, the others 96 or 64
    windows = few.calibrated.text.tokens.windows
    few.calibrated.text = replace(few.calibrated.text, tokens=EvaluationTokens([windows[0][:13]], "short"))
    few.calibrated.want(few.wanted, few.base.hardware)
    few.calibrated.text = replace(few.calibrated.text, tokens=EvaluationTokens([windows[0][:12]], "short"))
    with pytest.raises(ConfigError, match="12 tokens are too few to calibrate wo, which has 128 inputs: it takes 13"):
        few.calibrated.want(few.wanted, few.base.hardware)
    assert chosen_matrices.LEAST_TOKENS == 0.1


def test_a_model_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no real weights"):
        run(experiment(BOTH), tmp_path, show_progress=False)


@pytest.mark.parametrize("overrides", [[], ["workload.skip=500"], ["quantize.skip=128"], ["quantize.skip=1000"]])
def test_no_window_is_both_calibrated_on_and_measured_on(model, overrides):
    subject = open_subject(resolved(model, BOTH, *TEXT, *overrides))
    calibrated = {tuple(window.tolist()) for window in subject.calibrated.text.tokens.windows}
    measured = {tuple(window.tolist()) for part in (subject.seen, subject.unseen) for window in part}
    assert (len(calibrated), len(measured)) == (8, 4)
    assert not calibrated & measured


def test_a_text_that_the_search_does_not_use_is_calibrated_on_from_its_beginning(model):
    subject = open_subject(resolved(model, BOTH, *TEXT, "quantize.texts=[python_source]", "quantize.verify_texts=[]"))
    assert subject.calibrated.text.skip == 0
    assert subject.calibrated.text.tokens.name.startswith("standard library source")


def test_a_file_is_the_same_text_by_whatever_path(model, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text(" ".join(map(str, range(2000))))
    monkeypatch.chdir(tmp_path)
    subject = open_subject(
        resolved(model, BOTH, *TEXT, "workload.text_file=text.txt", f"quantize.texts=[{tmp_path}/text.txt]")
    )
    assert subject.calibrated.text.skip == 128


def test_settings_of_calibration_make_another_experiment_where_weights_are_calibrated(model):
    def hash_of(*overrides):
        return resolved(model, *overrides).config_hash()

    assert hash_of(BOTH) != hash_of(BOTH, "quantize.damping=0.02")
    assert hash_of() == hash_of("quantize.damping=0.02")
