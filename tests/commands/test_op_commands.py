# SPDX-License-Identifier: Apache-2.0
"""Op times on the command line: validate_predictions --ops, calibrate --ops, predict --ops-csv and --against-ops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from places import ROOT
from tt_transformers_v2.commands import calibrate, predict, validate_predictions
from tt_transformers_v2.perf.calibration import Calibration

OPS = str(ROOT / "conf/measurements/op_rows_2026.csv")
LAYER = str(ROOT / "tests/data/llama8b_n150_decode_layer.csv")
NEW = ["--calibration", "tt_metal_2026"]
ASKED = ["device=n150", "model=llama8b", "precision=performance", "calibration=tt_metal_2026"]


def test_op_rows_are_printed_with_the_errors_by_class_and_those_of_2025(capsys):
    assert validate_predictions.main(["--ops", OPS, *NEW]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("decode matmul         Matmul DRAM-sharded 32x4096x6144 (QKV)") for line in lines)
    table = lines[lines.index(next(line for line in lines if "tt_metal_2025 median" in line)) :]
    assert any(line.startswith("decode attention") and "wormhole_b0" in line for line in table)


def test_json_of_op_rows_says_the_same(capsys):
    assert validate_predictions.main(["--ops", OPS, *NEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibration"] == "tt_metal_2026"
    assert {error["class"] for error in found["errors"]} > {"decode matmul", "norm", "collective"}
    first = found["rows"][0]
    assert first["error_percent"] == pytest.approx((first["predicted_us"] / first["measured_us"] - 1) * 100)


@pytest.mark.parametrize("command", [validate_predictions, calibrate])
def test_either_kind_of_rows_is_wanted_and_not_both(command, capsys, tmp_path):
    more = ["--out", str(tmp_path / "own.yaml")] if command is calibrate else []
    for given in ([], ["--points", OPS, "--ops", OPS]):
        assert command.main([*given, *more]) == 2
        assert "give measured rows: --points" in capsys.readouterr().err


def test_options_of_the_other_kind_of_rows_are_refused(capsys, tmp_path):
    assert validate_predictions.main(["--ops", OPS, "--fit", "Llama-3.1-8B"]) == 2
    assert "--fit goes with --points" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "own.yaml")]
    assert calibrate.main(["--ops", OPS, "--constants", "rope_us", *out]) == 2
    assert "--fit and --constants go with --points" in capsys.readouterr().err


def test_a_wrong_op_row_ends_in_a_line_with_its_place(capsys, tmp_path):
    path = tmp_path / "own.csv"
    lines = Path(OPS).read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "64.059" in line).replace("64.059", "0.0641")
    path.write_text(f"{lines[0]}\n{row}\n", encoding="utf-8")
    assert validate_predictions.main(["--ops", str(path), *NEW]) == 2
    said = capsys.readouterr().err
    assert "own.csv, line 2: kernel_us is 0.0641" in said.replace("\n", " ")
    assert "milliseconds" in said


def test_op_costs_are_fitted_and_written_as_a_whole_calibration(capsys, tmp_path):
    out = tmp_path / "own.yaml"
    assert calibrate.main(["--ops", OPS, "--base", "tt_metal_2026", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "matmul_us" in said
    assert "validate_predictions" in said
    written = Calibration.from_dict(yaml.safe_load(out.read_text(encoding="utf-8")))
    assert written.name == "own"
    assert all(own.ops is not None for own in written.archs.values())


def test_the_predicted_step_is_written_and_can_be_held_against_itself(capsys, tmp_path):
    out = tmp_path / "ops.csv"
    assert predict.main([*ASKED, "--ops-csv", str(out)]) == 0
    assert "674 device ops of one chip" in capsys.readouterr().out.replace("\n", " ")
    assert predict.main([*ASKED, "--against-ops", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["against_ops"]
    assert found["layers"] == 32
    assert found["unexplained_us"] == 0
    assert found["predicted_us"] == pytest.approx(found["measured_us"], rel=1e-3)


def test_a_measured_layer_is_shown_beside_the_prediction(capsys):
    users = ["workload.batch=32", "workload.prompt_length=32", "precision.kv_cache=BF16"]
    assert predict.main([*ASKED, *users, "--against-ops", LAYER]) == 0
    said = capsys.readouterr().out
    assert "measured ops beside predicted ones, 1 layer" in said
    assert "total ops: measured 986.9 us" in said


@pytest.mark.parametrize("option", ["--ops-csv", "--against-ops"])
def test_a_calibration_without_ops_and_a_file_that_is_none_are_user_errors(option, capsys, tmp_path):
    old = [*ASKED[:3], "calibration=tt_metal_2025"]
    assert predict.main([*old, option, str(tmp_path / "x.csv") if option == "--ops-csv" else LAYER]) == 2
    assert "one lump a layer" in capsys.readouterr().err
    assert predict.main([*ASKED, option, str(tmp_path)]) == 2
    assert "cannot" in capsys.readouterr().err


def test_an_existing_ops_csv_is_replaced_only_when_forced(capsys, tmp_path):
    out = tmp_path / "ops.csv"
    out.write_text("measured", encoding="utf-8")
    assert predict.main([*ASKED, "--ops-csv", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err.replace("\n", " ")
    assert out.read_text(encoding="utf-8") == "measured"
    assert predict.main([*ASKED, "--ops-csv", str(out), "--force"]) == 0
    assert out.read_text(encoding="utf-8").startswith("OP CODE")


def test_the_measured_file_is_not_overwritten_and_compared_with_itself(capsys, tmp_path):
    measured, link = tmp_path / "measured.csv", tmp_path / "link.csv"
    measured.write_text(Path(LAYER).read_text(encoding="utf-8"), encoding="utf-8")
    link.symlink_to(measured)
    assert predict.main([*ASKED, "--against-ops", str(measured), "--ops-csv", str(link), "--force"]) == 2
    assert "are the same file" in capsys.readouterr().err
    assert measured.read_text(encoding="utf-8") == Path(LAYER).read_text(encoding="utf-8")


def test_force_without_an_ops_csv_is_refused(capsys):
    assert predict.main([*ASKED, "--force"]) == 2
    assert "--force goes with --ops-csv" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--constants", "--fit"])
def test_an_empty_list_of_names_is_refused(option, capsys, tmp_path):
    points = str(ROOT / "conf/measurements/tt_metal_perf_md.csv")
    assert calibrate.main(["--points", points, "--out", str(tmp_path / "own.yaml"), option, ""]) == 2
    assert f"{option} names none" in capsys.readouterr().err


def test_a_wrong_value_does_not_suggest_the_option_that_was_typed(capsys):
    assert predict.main([*ASKED, "--target", "0"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_sampling_that_is_greedy_only_says_so_among_the_changes(capsys):
    assert predict.main([*ASKED, "--what-if"]) == 0
    assert "runtime.sampling=device_argmax (greedy only)" in capsys.readouterr().out
