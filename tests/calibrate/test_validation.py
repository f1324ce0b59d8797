# SPDX-License-Identifier: Apache-2.0
"""Predictions against measured rows: what a row means, what is counted, and how far off the published rows are."""

from __future__ import annotations

import dataclasses

import pytest

from measured_rows import CALIBRATION_2025, PUBLISHED, PUBLISHED_2026, SOURCE, row
from places import ROOT
from tt_transformers_v2.calibrate.measured_rows import (
    OTHER_RELEASE,
    OTHER_RELEASE_BAND,
    load_calibration,
    predict_rows,
    resolve_rows,
    row_overrides,
)
from tt_transformers_v2.calibrate.validation import Validation, validate
from tt_transformers_v2.calibrate.validation_report import report_markdown, report_text
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.perf.measurements import MeasuredRow, read_points

CFG = "cfg:ff13=bfp4,ff2=bf16,wqkv=bfp8,wo=bfp4,kv=bfp8,act=mixed"


@pytest.fixture(scope="module")
def published() -> Validation:
    return validate(read_points(ROOT / PUBLISHED), load_calibration(CALIBRATION_2025))


@pytest.fixture(scope="module")
def published_2026() -> Validation:
    return validate(read_points(ROOT / PUBLISHED_2026), load_calibration("tt_metal_2026"))


@pytest.mark.parametrize(
    ("phase", "name", "limit"),
    [
        ("decode", "wormhole_b0, demo", 5.0),
        ("decode", "server", 12.0),
        ("decode", "blackhole, demo", 12.0),
        ("decode", "blackhole, server", 12.0),
        ("decode", "all", 5.5),
    ],
)
def test_mean_error_on_the_rows_of_2026(published_2026, phase, name, limit):
    assert published_2026.errors(phase, name).mean <= limit


def test_ttft_of_2026_and_errors_on_models_left_out(published_2026):
    assert published_2026.errors("ttft", "all").median <= 8.0
    left_out = published_2026.calibration.confidence["left_out"]
    assert left_out["model"]["decode"]["mean"] <= 7.0
    assert left_out["model"]["decode"]["rows"] > 200


def test_every_row_of_2026_that_counts_lies_in_its_band_nine_times_in_ten(published_2026):
    everything = published_2026.errors("decode", "all")
    assert everything.inside / everything.count >= 0.9


def mean_error(published: Validation, phase: str, name: str) -> float:
    found = published.errors(phase, name)
    assert found is not None
    assert found.count >= 10
    return found.mean


# --- how far off: these may only become smaller -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "name", "limit"),
    [
        ("decode", "Wormhole Llama, batch 1", 5.0),
        ("decode", "Wormhole Llama, batch 1, any context", 5.0),
        ("decode", "Wormhole Llama, batch 32", 5.0),
        ("decode", "Wormhole Llama, 64k context", 6.0),
        ("decode", "calibrated, check", 8.0),
        ("ttft", "all", 20.0),
    ],
)
def test_mean_error_on_published_rows(published, phase, name, limit):
    assert mean_error(published, phase, name) <= limit


def test_four_of_five_published_rows_are_inside_their_band(published):
    for phase in ("decode", "ttft"):
        found = published.errors(phase, "all")
        assert found.inside / found.count >= 0.8


def test_nineteen_of_twenty_calibrated_rows_are_inside_their_decode_band(published):
    found = published.errors("decode", "calibrated")
    assert found.inside / found.count >= 0.95


def test_speed_up_from_accuracy_to_performance(published):
    deviation, pairs = published.speed_up_deviation("Wormhole Llama")
    assert pairs >= 10
    assert deviation <= 0.03
    assert published.speed_up_deviation("calibrated")[0] <= 0.03


def test_every_published_row_without_a_flag_has_a_prediction(published):
    assert published.unsupported == 0
    assert sum(errors.count for errors in published.decode if errors.name == "all") >= 80


def test_the_committed_pages_are_what_the_model_says_now(published, published_2026):
    for name, found in (("docs/validation-2025.md", published), ("docs/validation.md", published_2026)):
        points = PUBLISHED if found is published else PUBLISHED_2026
        page = (ROOT / name).read_text(encoding="utf-8")
        assert page == report_markdown(found, points, name), (
            f"run: python scripts/validate_predictions.py --points {points} --markdown {name}"
        )


# --- what a row means -------------------------------------------------------------------------------------------


def test_a_row_becomes_the_overrides_a_user_would_type():
    assert row_overrides(row(model="Llama-3.1-8B", device="T3K", data_parallel=4, batch=32, seq=512)) == [
        "device=T3K",
        "model=Llama-3.1-8B",
        "precision=performance",
        "parallelism.tensor_parallel_size=2",
        "parallelism.data_parallel_size=4",
        "workload.batch=128",
        "workload.prompt_length=512",
    ]


def test_the_command_line_takes_a_rows_overrides():
    for asked in (row(mode=CFG, data_parallel=2), row(flag="one_reader_per_bank", mode="accuracy")):
        texts = row_overrides(asked)
        assert len(check_overrides(texts).texts) == len(texts)


def test_batch_counts_users_per_group():
    (one,) = predict_rows([row(device="T3K", data_parallel=4, batch=8)], load_calibration(CALIBRATION_2025))
    assert one.prediction.batch == 8
    assert one.prediction.speed.users == 32


def test_cfg_sets_every_group_and_the_fidelity_that_goes_with_it():
    (resolved,) = resolve_rows([row(mode=CFG)])
    hardware = resolved.experiment.hardware
    formats = {
        name: str(hardware.precision.of(name))
        for name in ("ff1_ff3", "ff2", "wqkv", "wo", "kv_cache", "attention_activations", "mlp_activations")
    }
    assert formats == {
        "ff1_ff3": "BFP4",
        "ff2": "BF16",
        "wqkv": "BFP8",
        "wo": "BFP4",
        "kv_cache": "BFP8",
        "attention_activations": "BF16",
        "mlp_activations": "BFP8",
    }
    assert str(hardware.compute_for("ff1_ff3").math_fidelity) == "LoFi"
    assert str(hardware.compute_for("ff2").math_fidelity) == "HiFi2"


def test_cfg_of_performance_mode_is_performance_mode():
    rows = [row(mode="cfg:ff13=bfp4,ff2=bfp8,wqkv=bfp8,wo=bfp8,kv=bfp8,act=mixed"), row(), row(mode="ff13_bfp4")]
    speeds = {one.prediction.speed.decode_us for one in predict_rows(rows, load_calibration(CALIBRATION_2025))}
    assert len(speeds) == 1


def test_the_reader_flag_keeps_one_reader_per_bank_whatever_the_calibration_says():
    asked = row(model="Llama-3.1-8B", device="P150", tensor_parallel=1)
    flagged = dataclasses.replace(asked, flag="one_reader_per_bank")
    calibration = load_calibration(CALIBRATION_2025)
    two = predict_rows([asked, flagged], calibration.replace(readers_per_bank=2))
    one = predict_rows([asked], calibration.replace(readers_per_bank=1))
    assert two[1].prediction.speed.decode_us == one[0].prediction.speed.decode_us
    assert two[0].prediction.speed.decode_us < one[0].prediction.speed.decode_us


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("perfomance", "Did you mean performance"),
        ("cfg:ff13=bfp44", "Did you mean bfp4"),
        ("cfg:ff31=bfp4", "Did you mean ff13"),
        ("cfg:ff13", "KEY=FORMAT"),
        ("cfg:", "KEY=FORMAT"),
        ("cfg:ff2=bfp8,ff2=bfp4", "twice"),
        ("cfg:act=bfp4", "act cannot be"),
    ],
)
def test_an_unreadable_mode_names_its_row(mode, words):
    with pytest.raises(ConfigError, match=words) as caught:
        resolve_rows([row(mode=mode)])
    assert "line 7 (Llama-3.2-1B on N300)" in str(caught.value)


def test_all_unreadable_rows_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        resolve_rows([row(mode="fast", line=2), row(line=3), row(mode="slow", line=4)])
    assert [line[:6] for line in str(caught.value).splitlines()] == ["line 2", "line 4"]


# --- what gets no number, and what gets a wider band --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "DeepSeek-V3", "device": "T3K", "tensor_parallel": 8}, "its attention is latent"),
        ({"model": "Qwen3.6-27B", "device": "P300x2", "tensor_parallel": 4}, "linear attention"),
        ({"model": "Qwen2.5-VL-7B"}, "vision encoder"),
        ({"model": "Wonder-7B"}, "no model named 'Wonder-7B'"),
        ({"model": "Llama-3.2-1B, twice ${x}"}, "no model named"),
        ({"device": "N9000"}, "no device named 'N9000'"),
        ({"device": "T3K", "tensor_parallel": 3}, "T3K has 8 chips"),
        ({"tensor_parallel": 64}, "N300 has 2 chips"),
        ({"batch": 4096}, "32 users"),
    ],
)
def test_what_cannot_run_is_unsupported_with_the_reason_and_stops_nothing(changes, reason):
    validation = validate([row(**changes), row()], load_calibration(CALIBRATION_2025))
    refused, fine = validation.rows
    assert refused.kind == "unsupported"
    assert reason in refused.decode.confidence.reasons[0]
    assert (refused.decode.predicted, refused.ttft.predicted, refused.decode.error) == (None, None, None)
    assert fine.kind == "calibrated"
    assert validation.unsupported == 1
    assert validation.errors("decode", "all").count == 1
    assert "unsupported 1" in report_text(validation)


def test_an_architecture_without_constants_is_unsupported():
    calibration = load_calibration(CALIBRATION_2025)
    only_wormhole = dataclasses.replace(
        calibration, archs={arch: own for arch, own in calibration.archs.items() if arch == "wormhole_b0"}
    )
    (one,) = predict_rows([row(model="Llama-3.1-8B", device="P150", tensor_parallel=1)], only_wormhole)
    assert one.decode.kind == "unsupported"
    assert "no constants for blackhole" in one.decode.reasons[0]


def test_another_release_is_extrapolated_at_best():
    (here, there) = predict_rows([row(), row(source="my own rack")], load_calibration(CALIBRATION_2025))
    assert (here.decode.kind, here.prefill.kind) == ("calibrated", "calibrated")
    assert there.prediction.speed.decode_us == here.prediction.speed.decode_us
    for own in (there.decode, there.prefill):
        assert own.kind == "extrapolated"
        assert own.reasons == (OTHER_RELEASE,)
        assert own.band == max(OTHER_RELEASE_BAND, own.band)


def test_another_way_of_measuring_ttft_counts_for_decode_alone():
    source = SOURCE.replace("§Performance", "§precision and math fidelity")
    validation = validate([row(ttft_ms=60.0), row(ttft_ms=60.0, source=source)], load_calibration(CALIBRATION_2025))
    assert [line.kind for line in validation.rows] == ["calibrated", "calibrated"]
    assert [line.ttft.covered for line in validation.rows] == [True, False]
    assert validation.errors("decode", "all").count == 2
    assert validation.errors("ttft", "all").count == 1
    assert validation.errors("ttft", "other releases (not counted above)").count == 1
    assert report_text(validation).splitlines()[2].count("*") == 1


# --- what is counted ----------------------------------------------------------------------------------------------


def predicted_speed(asked: MeasuredRow) -> float:
    (found,) = predict_rows([asked], load_calibration(CALIBRATION_2025))
    return found.prediction.speed.decode_tokens_per_s_per_user


def test_the_error_is_of_the_measurement_and_the_band_of_the_prediction():
    speed = predicted_speed(row())
    rows = [row(tokens_per_s_per_user=speed * factor) for factor in (0.8, 1.0, 1.119, 1.121)]
    validation = validate(rows, load_calibration(CALIBRATION_2025))
    assert validation.rows[0].decode.error == pytest.approx(25.0)
    assert validation.rows[0].decode.confidence.band == 12
    assert [line.decode.inside for line in validation.rows] == [False, True, True, False]
    assert validation.errors("decode", "calibrated").inside == 2


def test_a_flagged_row_is_shown_and_never_counted():
    rows = [row(), row(tokens_per_s_per_user=1.0, flag="faulty_host")]
    validation = validate(rows, load_calibration(CALIBRATION_2025))
    assert validation.flagged == 1
    assert validation.errors("decode", "all") == validate(rows[:1], load_calibration(CALIBRATION_2025)).errors(
        "decode", "all"
    )
    text = report_text(validation)
    assert "faulty_host" in text
    assert "1 are not counted" in text


def test_fitted_rows_are_those_of_fitted_models_and_covered_sources():
    rows = [row(), row(model="Llama-3.2-3B"), row(source="my own rack"), row(flag="dup")]
    assert [line.fitted for line in validate(rows, load_calibration(CALIBRATION_2025)).rows] == [
        True,
        False,
        None,
        None,
    ]
    own = validate(rows, load_calibration(CALIBRATION_2025), fit_models=["llama-3.2-3b"])
    assert [line.fitted for line in own.rows] == [False, True, None, None]


def test_a_speed_up_needs_both_modes_without_a_flag():
    speeds = {mode: predicted_speed(row(mode=mode)) for mode in ("accuracy", "performance")}
    slow = row(mode="accuracy", tokens_per_s_per_user=50.0)
    fast = row(tokens_per_s_per_user=60.0)
    (pair,) = validate([slow, fast], load_calibration(CALIBRATION_2025)).speed_ups
    assert pair.measured == pytest.approx(1.2)
    assert pair.predicted == pytest.approx(speeds["performance"] / speeds["accuracy"])
    for lonely in ([slow, dataclasses.replace(fast, flag="dup")], [slow, dataclasses.replace(fast, batch=32)], [fast]):
        assert validate(lonely, load_calibration(CALIBRATION_2025)).speed_ups == []


@pytest.mark.parametrize(
    ("figures", "flag", "likely"),
    [
        ("1,9", "", "seconds"),
        ("200,900", "", "tokens of many users"),
        ("200,900", "gate_value", "tokens of many users"),
        ("200,900", "approx", "tokens of many users"),
    ],
)
def test_a_figure_in_another_unit_is_refused_with_file_line_and_the_likely_unit(tmp_path, figures, flag, likely):
    path = tmp_path / "own.csv"
    head = "model,device,tp,dp,batch,seq,mode,ttft_ms,tsu,source,flag"
    path.write_text(f"{head}\nLlama-3.1-8B,N150,1,1,1,128,accuracy,{figures},a report,{flag}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"own.csv, line 2 .*this looks like {likely}"):
        validate(read_points(path), load_calibration())
