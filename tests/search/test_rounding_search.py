# SPDX-License-Identifier: Apache-2.0
"""Whole searches of a tiny model among roundings, and the weights of what they find."""

import csv
import json
import re
from types import SimpleNamespace

import pytest
import yaml
from rounding_searches import BOTH, TEXT
from searching import resolved, search

from quantize.tiny_llama import write_model
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.layers import selected_layers
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.config.search_schema import Rounding
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.quantize import rounding_choices
from tt_transformers_v2.report.searches import search_sections
from tt_transformers_v2.run.runner import run
from tt_transformers_v2.search.replay import Replay
from tt_transformers_v2.search.space import configured
from tt_transformers_v2.search.subject import open_subject


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    """The folder and the section of a search among both roundings."""
    from tt_transformers_v2.search import subject

    folder = tmp_path_factory.mktemp("rounding")
    before, subject.outputs_dir = subject.outputs_dir, lambda: folder / "outputs"
    try:
        return folder, search(model, folder, BOTH, *TEXT)
    finally:
        subject.outputs_dir = before


@pytest.fixture
def subject(model):
    return open_subject(resolved(model, BOTH, *TEXT), everything=True)


def test_each_place_has_the_rounding_that_measures_better(found):
    _, section = found
    known = {(row["layer"], row["site"], row["option"]): max(row["kl_change"], 0) for row in section["sensitivities"]}
    assert len(known) == 3 * 4 * 4
    for site in ("ff1_ff3", "ff2", "wqkv", "wo"):
        for text, select in section["points"][-1]["options"][site].items():
            plain = text.removesuffix(" calibrated")
            for layer in selected_layers(select, 3):
                both = [known[layer, site, f"{plain}{how}"] for how in ("", " calibrated")]
                assert known[layer, site, text] == min(both)


def test_layers_lose_less_calibrated_than_to_nearest(found):
    rows = found[1]["rounding"]["layers"]
    assert [(row["option"], row["layer"], row["sites"]) for row in rows] == [
        (option, layer, 4) for option in ("BFP4/LOFI", "BFP8/HIFI2") for layer in range(3)
    ]
    assert sum(row["calibrated"] for row in rows) < 0.8 * sum(row["nearest"] for row in rows)


def test_results_say_what_was_calibrated_on_which_text_and_how_to_get_it(found):
    folder, section = found
    assert section["rounding"]["text"] == f"{section['text']} after 128 tokens"
    with (folder / "search.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    for point in section["points"]:
        calibrated = any("calibrated" in text for site in point["options"].values() for text in site)
        assert bool(point["calibrated_on"]) == bool(point["weights_command"]) == calibrated
        assert rows[point["name"]]["calibrated_on"] == (point["calibrated_on"] or "")
        assert ("calibrated" in point["sentence"]) == calibrated
        assert ("quantize" in yaml.safe_load((folder / point["tuning"]).read_text())) == calibrated
    assert section["points"][0]["calibrated_on"] is None
    assert section["points"][-1]["calibrated_on"] == f"256 tokens of {section['text']} after 128 tokens"
    assert rows["precision=performance"]["calibrated_on"] == ""


@in_own_context
def with_point(folder, model, point, *overrides):
    """What a user gets with --config-dir, a point's tuning file and further overrides."""
    add_conf_dir(folder)
    checked = check_overrides(["device=n150", "model=hf", f"model.path={model}", f"tuning={point}", *overrides])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def test_the_command_of_a_point_writes_the_weights_that_were_verified(found, model, subject, tmp_path):
    folder, section = found
    assert len({len(point["options"]["ff2"]) for point in section["points"][-2:]}) == 2  # one mixes
    for point in section["points"][-2:]:
        name, out = point["name"], tmp_path / point["name"]
        command = re.findall(r"\S+=\S+", point["weights_command"])
        assert command == [f"tuning={name}", "task=quantize", "quantize.out=DIR"]
        quick = ("quantize.verify_texts=[]", "backend.numerics=fast")
        experiment = with_point(folder, model, name, "task=quantize", f"quantize.out={out}", *quick)
        made = run(experiment, out / "run", show_progress=False)["quantize"]
        calibrated = sum(
            len(selected_layers(select, 3)) * (2 if site == "ff1_ff3" else 1)
            for site, options in point["options"].items()
            for text, select in options.items()
            if "calibrated" in text
        )
        assert made["calibrated_matrices"] == calibrated
        replay = subject.replay(subject.unseen, "fast")()
        weights = replay.whole(experiment.hardware, SafetensorsWeights(out))
        assert (weights.kl, weights.top1) == (point["kl_divergence"], point["top1"])
        own = replay.whole(experiment.hardware, subject.source)
        assert own.kl != point["kl_divergence"]


def test_accuracy_with_the_weights_of_a_point_is_what_was_verified(found, model, tmp_path):
    """The windows that a search verifies on are the even ones, where it has as many to search on."""
    folder, section = found
    name, kl = section["points"][-1]["name"], section["points"][-1]["kl_divergence"]
    out = tmp_path / "out"
    quick = ("quantize.verify_texts=[]", "backend.numerics=fast")
    made = with_point(folder, model, name, "task=quantize", f"quantize.out={out}", *quick)
    run(made, tmp_path / "made", show_progress=False)
    settings = ("task=accuracy", "workload.part=even", "workload.tokens=64", "workload.window=32")
    for weights, same in (([f"quantize.weights={out}"], True), ([], False)):
        experiment = with_point(folder, model, name, *settings, "backend.numerics=fast", *weights)
        again = run(experiment, tmp_path / f"{same}", show_progress=False)["accuracy"]["kl_divergence"]
        assert (again == pytest.approx(kl, rel=1e-3)) is same
        warned = [finding.id for finding in experiment.findings if finding.id == "calibrated-weights-unused"]
        assert bool(warned) is not same


def test_every_variant_equals_its_whole_run_with_its_own_weights(subject):
    replay, base = subject.replay(subject.seen, "fast")(), subject.space.base()
    calibrated = [change for change in subject.wanted if change[1].rounding is Rounding.calibrated]
    assert len(calibrated) == 3 * 4 * 2
    for place, option in calibrated[::3]:
        hardware = configured(subject.base.hardware, {place: option}, 3)
        weights = subject.weights(base | {place: option}, hardware)
        own = replay.variant(place, hardware, weights)
        assert own == replay.whole(hardware, weights), (place, option)
        assert own != replay.variant(place, hardware, subject.source)


def test_a_base_that_is_calibrated_is_run_with_its_weights(model, tmp_path):
    others = (f"search.space.{site}=[]" for site in ("wqkv", "wo", "ff1_ff3"))
    space = ("search.space.ff2=[BFP4/HIFI2,BFP4/LOFI]", *others)
    nearest = open_subject(resolved(model, *space, *TEXT), everything=True)
    calibrated = open_subject(resolved(model, "search.rounding=[calibrated]", *space, *TEXT), everything=True)
    both = open_subject(resolved(model, BOTH, *space, *TEXT), everything=True)
    bases = [each.replay(each.seen, "fast")().base.kl for each in (nearest, calibrated, both)]
    assert bases[1] == bases[2] != bases[0]
    own = {(str(option), place.layer) for place, option in both.wanted}
    assert {(str(option), place.layer) for place, option in calibrated.wanted} <= own
    replay = both.replay(both.seen, "fast")()
    plain = {place: option for place, option in both.wanted if option.text == "BFP4/HIFI2"}
    assert len(plain) == 3
    one = replay.whole(both.base.hardware, both.weights(plain, both.base.hardware))
    assert one.kl == bases[0]
    # And from the layer that changed.
    place = max(plain)
    changed = both.space.base() | {place: plain[place]}
    weights = both.weights(changed, both.base.hardware)
    assert replay.variant(place, both.base.hardware, weights) == replay.whole(both.base.hardware, weights)


@pytest.mark.parametrize("method", ["measured", "gradient"])
def test_an_interrupted_search_ends_with_the_same_result(method, model, tmp_path, monkeypatch):
    from tt_transformers_v2.search import subject

    lines = (BOTH, *TEXT, "search.points=3", f"search.method={method}", "search.space.wqkv=[]", "search.space.wo=[]")
    monkeypatch.setattr(subject, "outputs_dir", lambda: tmp_path / "whole")
    whole = search(model, tmp_path / "a", *lines)
    monkeypatch.setattr(subject, "outputs_dir", lambda: tmp_path / "outputs")
    save, kept = rounding_choices.save_tensors, Replay.variant
    counts = {"saved": 0, "measured": 0}

    def saving(*given):
        counts["saved"] += 1
        if counts["saved"] == 9:
            raise KeyboardInterrupt
        save(*given)

    def measuring(*given):
        counts["measured"] += 1
        if counts["measured"] == 3:
            raise KeyboardInterrupt
        return kept(*given)

    monkeypatch.setattr(rounding_choices, "save_tensors", saving)
    monkeypatch.setattr(Replay, "variant", measuring)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(model, tmp_path / "b", *lines)
    again = search(model, tmp_path / "b", *lines)
    assert counts["saved"] > 9
    timed = {"seconds", "seconds_to_sensitivities", "sensitivity_cost", "whole_run_seconds", "estimates"}
    assert {key for key in whole if whole[key] != again[key]} <= timed
    # All is known now: nothing is rounded or measured.
    monkeypatch.setattr(rounding_choices, "save_tensors", None)
    monkeypatch.setattr(Replay, "__init__", None)
    assert search(model, tmp_path / "c", *lines)["points"] == whole["points"]


def test_figures_of_a_search_to_nearest_are_used_again(model, tmp_path):
    lines = ("search.points=3", "search.space.wqkv=[]", "search.space.wo=[]")
    first = search(model, tmp_path / "a", *lines)
    both = search(model, tmp_path / "b", BOTH, *TEXT, *lines)
    assert both["sensitivity_cost"]["measured_now"] == first["sensitivity_cost"]["measured_now"] == 12
    other = search(model, tmp_path / "c", BOTH, *TEXT, *lines, "quantize.damping=0.1")
    assert other["sensitivity_cost"]["measured_now"] == 12


def test_gradients_estimate_calibrated_options_by_their_own_weights(model, tmp_path):
    section = search(model, tmp_path, BOTH, *TEXT, "search.method=gradient", "search.gradient_samples=4")
    rows = {(row["layer"], row["site"], row["option"]): row["kl_estimated"] for row in section["sensitivities"]}
    assert len(rows) == 3 * 4 * 4
    nearest, calibrated = (
        sum(rows[layer, site, f"BFP4/LOFI{how}"] for layer in range(3) for site in ("ff1_ff3", "wo"))
        for how in ("", " calibrated")
    )
    assert 0 < calibrated < 0.8 * nearest
    assert any("calibrated" in check["change"] for check in section["estimates"]["checks"])


def test_a_report_shows_layers_before_and_after_and_both_fronts_in_one_picture(found, model, tmp_path):
    both = found[1]
    nearest = search(model, tmp_path / "nearest", f"search.method={both['method']}")
    jobs = [SimpleNamespace(result={"search": each}, finished=True, name="job") for each in (both, nearest)]
    page = search_sections([SimpleNamespace(name="sweep", jobs=jobs)])
    assert "Search by rounding" in page
    assert page.count("KL added by the sites of a layer, one at a time, before and after calibration") == 1
    assert f"Weights calibrated on 256 tokens of {both['rounding']['text']}" in page
    assert page.count("<td>python scripts/run.py --config-dir RUN_FOLDER tuning=point_") == sum(
        bool(point["weights_command"]) for point in both["points"]
    )
    alone = search_sections([SimpleNamespace(name="sweep", jobs=jobs[1:])])
    assert "before and after calibration" not in alone
    assert "Search by" not in alone
    assert json.loads(json.dumps(both["rounding"])) == both["rounding"]
