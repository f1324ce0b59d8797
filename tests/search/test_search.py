# SPDX-License-Identifier: Apache-2.0
"""Whole searches of a tiny model, and what is refused before one begins."""

import csv
import json
from types import SimpleNamespace

import pytest
from searching import resolved, search

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import add_conf_dir, in_own_context
from tt_transformers_v2.config.exchange import read_decoder_json
from tt_transformers_v2.config.layers import selected_layers
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.report import write_report
from tt_transformers_v2.report.searches import search_sections
from tt_transformers_v2.run.performance import predict
from tt_transformers_v2.search.front_export import same_numerics
from tt_transformers_v2.search.replay import Replay
from tt_transformers_v2.search.search_pictures import fronts


@pytest.fixture(scope="module")
def found(tiny_model, tmp_path_factory):
    from tt_transformers_v2.search import subject

    folder = tmp_path_factory.mktemp("search")
    before, subject.outputs_dir = subject.outputs_dir, lambda: folder / "outputs"
    try:
        return folder, search(tiny_model, folder)
    finally:
        subject.outputs_dir = before


def test_the_front_goes_from_the_most_accurate_to_the_fastest(found):
    _, section = found
    points = section["points"]
    assert len(points) == 5
    speeds = [point["decode_tokens_per_s_per_user"] for point in points]
    assert speeds == sorted(speeds)
    assert points[0]["kl_divergence"] < points[-1]["kl_divergence"]
    assert points[0]["options"]["ff2"] == {"BF16/HIFI2": "0..1"}
    assert points[-1]["options"]["ff2"] == {"BFP4/LOFI": "0..1"}
    assert {preset["name"] for preset in section["presets"]} == {"precision=performance", "precision=accuracy"}
    assert section["verified_on"].startswith("64 other tokens")


def test_a_verified_estimate_stands_beside_every_sum(found):
    for point in found[1]["points"]:
        assert point["kl_low"] <= point["kl_divergence"] <= point["kl_high"]
        assert point["searched_kl"] >= 0
        assert point["estimated_kl"] >= found[1]["base"]["kl"]


def test_files_of_a_search(found):
    folder, section = found
    with (folder / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [
        *(point["name"] for point in section["points"]),
        *(preset["name"] for preset in section["presets"]),
    ]
    assert {"sensitivity.svg", "front.svg"} <= set(section["pictures"])
    assert "layer 1 ff2 BFP4/LOFI" in (folder / "sensitivity.svg").read_text()


@in_own_context
def tuned(folder, model, point):
    """What a user gets with --config-dir and the point's tuning file."""
    add_conf_dir(folder)
    checked = check_overrides(["device=n150", "model=hf", f"model.path={model}", f"tuning={point['name']}"])
    return resolve_or_refuse(compose(checked), checked.typed)


def test_each_point_is_a_tuning_file_that_makes_its_configuration(found, tiny_model):
    folder, section = found
    for point in section["points"]:
        again = tuned(folder, tiny_model, point)
        for site, options in point["options"].items():
            for text, select in options.items():
                for layer in selected_layers(select, again.spec.num_layers):
                    assert str(again.hardware.for_layer(layer).precision.of(site)) == text.split("/")[0]
        speed = predict(again).speed.decode_tokens_per_s_per_user
        assert speed == pytest.approx(point["decode_tokens_per_s_per_user"])


def test_the_tttv1_json_reads_back_to_the_same_configuration(found, tiny_model):
    folder, section = found
    base = resolved(tiny_model)
    for point in section["points"]:
        assert point["tttv1_refusal"] is None
        read = read_decoder_json((folder / point["tttv1_json"]).read_text(), 2).applied(base.hardware, 2)
        ours = tuned(folder, tiny_model, point).hardware
        for layer in range(2):
            assert same_numerics(read.for_layer(layer), ours.for_layer(layer))


def test_a_second_search_measures_nothing_anew(tiny_model, tmp_path, monkeypatch):
    first = search(tiny_model, tmp_path / "one", "search.points=3")

    def refuse(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr(Replay, "__init__", refuse)
    second = search(tiny_model, tmp_path / "two", "search.points=3")
    differing = {key for key in first if first[key] != second[key]}
    assert differing <= {"seconds", "seconds_to_sensitivities", "sensitivity_cost", "whole_run_seconds"}
    assert second["sensitivity_cost"]["measured_now"] == 0


def test_sensitivities_are_the_same_in_another_run(tiny_model, tmp_path, monkeypatch):
    from tt_transformers_v2.search import subject

    rows = []
    for name in ("one", "two"):
        monkeypatch.setattr(subject, "outputs_dir", lambda name=name: tmp_path / name / "outputs")
        rows.append(search(tiny_model, tmp_path / name, "task=sensitivity")["sensitivities"])
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2 * 4 * 2


def test_a_bar_chooses_the_fastest_point_within_it_on_unseen_text(tiny_model, tmp_path):
    every = search(tiny_model, tmp_path / "front", "search.points=8")["points"]
    bar = every[len(every) // 2]["kl_divergence"]
    section = search(tiny_model, tmp_path / "bar", "search.points=8", f"search.max_kl={bar}")
    chosen = next(point for point in section["points"] if point["name"] == section["chosen"])
    assert chosen["kl_divergence"] <= bar
    within = [p["decode_tokens_per_s_per_user"] for p in every if p["kl_divergence"] <= bar]
    assert chosen["decode_tokens_per_s_per_user"] >= max(within)


def test_a_target_chooses_the_most_accurate_point_that_reaches_it(tiny_model, tmp_path, found):
    speeds = [point["decode_tokens_per_s_per_user"] for point in found[1]["points"]]
    target = (speeds[0] + speeds[-1]) / 2
    section = search(tiny_model, tmp_path, f"search.min_tokens_per_s_per_user={target}")
    chosen = next(point for point in section["points"] if point["name"] == section["chosen"])
    assert chosen["decode_tokens_per_s_per_user"] >= target
    slower = [point for point in section["points"] if point["steps"] < chosen["steps"]]
    assert all(point["decode_tokens_per_s_per_user"] < target for point in slower)


def test_min_top1_is_a_bar_too(tiny_model, tmp_path):
    section = search(tiny_model, tmp_path, "search.min_top1=0.5")
    chosen = next(point for point in section["points"] if point["name"] == section["chosen"])
    assert chosen["top1"] >= 0.5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.max_kl=1e-9"], "cannot be met"),
        (["search.min_top1=1.0"], "cannot be met"),
        (["search.min_tokens_per_s_per_user=1e6"], "the fastest reaches"),
        (["search.objective=ttft", "search.max_ttft_ms=0.001"], "predicted to start within|nothing in search.space"),
        (["search.tokens=100000000"], "the search needs"),
        (["backend=reference"], "backend=emulated"),
        (["search.space.ff2=[BFP9,BFP4]"], "BFP"),
    ],
)
def test_what_cannot_be_is_said_at_once(tiny_model, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        search(tiny_model, tmp_path, *overrides)
    assert not (tmp_path / "result.json").exists()


def test_a_bar_and_a_target_that_contradict_each_other(tiny_model, tmp_path, found):
    points = found[1]["points"]
    bar, target = points[0]["kl_divergence"] * 1.01, points[-1]["decode_tokens_per_s_per_user"] * 0.9999
    with pytest.raises(ConfigError, match="contradict"):
        search(tiny_model, tmp_path, f"search.max_kl={bar}", f"search.min_tokens_per_s_per_user={target}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["search.window=128"], "longer than"),
        (["search.min_top1=95"], "between 0 and 1"),
        (["search.max_ttft_ms=5"], "objective=ttft"),
        (["search.points=1"], "at least"),
    ],
)
def test_contradictory_settings_are_refused(tiny_model, overrides, said):
    with pytest.raises(ConfigError, match=said):
        resolved(tiny_model, *overrides)


def test_a_model_without_weights_is_refused(tmp_path):
    from tt_transformers_v2.run.runner import run

    checked = check_overrides(["task=search", "model=llama1b"])
    with pytest.raises(ConfigError, match="no real weights"):
        run(resolve_or_refuse(compose(checked.texts), checked.typed), tmp_path, show_progress=False)


def test_a_model_too_large_for_the_device_is_refused():
    checked = check_overrides(["task=search", "model=llama70b", "device=n150"])
    with pytest.raises(ConfigError, match="does not fit"):
        resolve_or_refuse(compose(checked.texts), checked.typed)


def test_options_too_large_for_the_device_are_refused(tmp_path):
    from tt_transformers_v2.run.runner import run

    checked = check_overrides(["task=search", "model=llama8b", "device=n150"])
    with pytest.raises(ConfigError, match="most accurate options"):
        run(resolve_or_refuse(compose(checked.texts), checked.typed), tmp_path, show_progress=False)


def test_a_report_shows_the_front_and_the_heat_map_and_runs_nothing_of_theirs(found, tmp_path):
    result = json.loads((found[0] / "result.json").read_text())
    section = result["search"]
    section["chosen"] = "point_00"
    section["points"][0]["sentence"] += " <script>alert(1)</script>"
    (tmp_path / "result.json").write_text(json.dumps(result))
    page = write_report(tmp_path).read_text()
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "img-src data:" in page
    assert all(f"<td>{point['name']}</td>" in page for point in section["points"])
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_weight_formats_are_written_for_tt_xla(found):
    folder, section = found
    for point in section["points"]:
        assert point["tt_xla_refusal"] is None
        written = json.loads((folder / point["tt_xla_json"]).read_text())
        default = written.pop("default")
        words = {"bf16": "BF16", "bfp_bf8": "BFP8", "bfp_bf4": "BFP4"}
        for site, parameters in {
            "ff1_ff3": ("mlp.gate_proj", "mlp.up_proj"),
            "ff2": ("mlp.down_proj",),
            "wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "wo": ("self_attn.o_proj",),
        }.items():
            for text, select in point["options"][site].items():
                for layer in selected_layers(select, 2):
                    for parameter in parameters:
                        name = written.get(f"model.layers.{layer}.{parameter}.weight", default)
                        assert words[name] == text.split("/")[0]
        assert default not in written.values()


def test_a_report_shows_both_methods_in_one_picture(found, tiny_model, tmp_path):
    result = json.loads((found[0] / "result.json").read_text())
    assert result["search"]["method"] == "measured"
    section = search(tiny_model, tmp_path / "gradient", "search.method=gradient", "search.gradient_checks=2")
    job = SimpleNamespace(result=result, finished=True, name="0")
    other = SimpleNamespace(result={"search": section}, finished=True, name="1")
    page = search_sections([SimpleNamespace(name="sweep", jobs=[job, other])])
    assert "Search by method" in page
    assert "KL estimated" in page
    assert "Search by method" not in search_sections([SimpleNamespace(name="sweep", jobs=[job])])
    drawn = fronts({"measured": result["search"], "gradient": section}, "method of sensitivities").svg()
    assert "measured: sensitivities in" in drawn
    assert "gradient: sensitivities in" in drawn
