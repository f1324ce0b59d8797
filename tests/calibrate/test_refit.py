# SPDX-License-Identifier: Apache-2.0
"""Fitting constants to measured rows: what rows can tell is found, what they cannot is left alone and said."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import subprocess
import sys

import pytest
import yaml

from measured_rows import CALIBRATION_2025, PUBLISHED, write
from places import ROOT
from tt_transformers_v2.calibrate.calibration_file import calibration_text, refitted_data
from tt_transformers_v2.calibrate.free_constants import DEFAULT_CONSTANTS, FREE
from tt_transformers_v2.calibrate.measured_rows import (
    RowPredictor,
    calibration_data,
    load_calibration,
    predict_rows,
    resolve_rows,
)
from tt_transformers_v2.calibrate.refit import Refit, refit
from tt_transformers_v2.commands.calibrate import main
from tt_transformers_v2.commands.validate_predictions import main as validate_main
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import Arch
from tt_transformers_v2.perf.calibration import Calibration
from tt_transformers_v2.perf.measurements import MeasuredRow, read_points

WORMHOLE, BLACKHOLE = Arch.wormhole_b0, Arch.blackhole
MODELS = ("Llama-3.2-1B", "Llama-3.1-8B")


@functools.cache
def shapes() -> tuple[MeasuredRow, ...]:
    """What was published of the fitted models, by configuration; the measurements are replaced below."""
    rows = read_points(ROOT / PUBLISHED)
    return tuple(row for row in rows if not row.flag and row.model in MODELS)


def perturbed(factors: dict[str, float], arch: Arch = WORMHOLE) -> Calibration:
    """The packaged constants, some of them multiplied."""
    base = load_calibration(CALIBRATION_2025)
    own = base.of(arch)
    changed: dict = {name: getattr(own, name) * factor for name, factor in factors.items()}
    return dataclasses.replace(base, archs={**base.archs, arch: dataclasses.replace(own, **changed)})


def made(rows: list[MeasuredRow], calibration: Calibration, source: str | None = "made up") -> list[MeasuredRow]:
    """Rows as the model itself would measure them with `calibration`; `source` None keeps each row's own."""
    speeds = [(found.row, found.prediction.speed) for found in predict_rows(rows, calibration) if found.prediction]
    return [
        dataclasses.replace(
            row,
            tokens_per_s_per_user=speed.decode_tokens_per_s_per_user,
            ttft_ms=speed.ttft_ms,
            source=row.source if source is None else source,
        )
        for row, speed in speeds
    ]


def truth(calibration: Calibration, name: str, arch: Arch = WORMHOLE) -> float:
    return getattr(calibration.of(arch), name)


# Those that the calibration of these rows has.
OWN = [name for name in DEFAULT_CONSTANTS if getattr(load_calibration(CALIBRATION_2025).of(WORMHOLE), name) is not None]
OWN = [name for name in OWN if not name.startswith("topk")]  # no row samples on the device
FEW = ["token_overhead_ms", "prefill_layer_overhead_us"]  # where it does not matter which
FACTORS = (
    dict.fromkeys(OWN, 1.3),
    {name: (0.7, 1.4)[index % 2] for index, name in enumerate(OWN)},
)


# --- what the rows can tell ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", FACTORS, ids=["all slower", "some slower, some faster"])
def test_known_constants_are_found_again(factors):
    wanted = perturbed(factors)
    found = refit(made(list(shapes()), wanted), calibration_data(CALIBRATION_2025))
    assert set(found.values[WORMHOLE]) == set(OWN)
    for name, value in found.values[WORMHOLE].items():
        assert value == pytest.approx(truth(wanted, name), rel=0.02), name
    for errors in found.errors:
        if errors.arch is WORMHOLE:
            assert errors.before > 5
            assert errors.after < 0.5


def test_one_wild_row_hardly_moves_the_constants():
    wanted = perturbed({"layer_overhead_us": 1.3, "token_overhead_ms": 0.8})
    rows = made(list(shapes()), wanted)
    rows[0] = dataclasses.replace(rows[0], tokens_per_s_per_user=rows[0].tokens_per_s_per_user / 3)
    found = refit(rows, calibration_data(CALIBRATION_2025)).values[WORMHOLE]
    assert found["layer_overhead_us"] == pytest.approx(truth(wanted, "layer_overhead_us"), rel=0.1)
    assert found["token_overhead_ms"] == pytest.approx(truth(wanted, "token_overhead_ms"), rel=0.1)


def test_a_fit_of_rows_the_constants_describe_already_changes_nothing():
    found = refit(made(list(shapes()), load_calibration(CALIBRATION_2025)), calibration_data(CALIBRATION_2025))
    for name, value in found.values[WORMHOLE].items():
        assert value == pytest.approx(truth(load_calibration(CALIBRATION_2025), name), rel=0.005), name


def test_constants_stay_within_their_bounds():
    nothing = perturbed({"group_overhead_ms": 0.0, "user_overhead_us": 0.0})
    faster = [
        dataclasses.replace(row, tokens_per_s_per_user=row.tokens_per_s_per_user * (1.2 if row.batch > 1 else 1.0))
        for row in made(list(shapes()), nothing)
    ]
    found = refit(faster, calibration_data(CALIBRATION_2025), ["user_overhead_us", "group_overhead_ms"])
    assert found.values[WORMHOLE]["user_overhead_us"] == 0
    assert found.values[WORMHOLE]["group_overhead_ms"] == pytest.approx(0, abs=0.01)


def test_the_same_rows_give_the_same_constants():
    rows = made([row for row in shapes() if row.device == "N150"], perturbed(FACTORS[1]))
    assert refit(rows, calibration_data(CALIBRATION_2025)) == refit(rows, calibration_data(CALIBRATION_2025))


def test_blackhole_constants_come_from_blackhole_rows_alone():
    wanted = perturbed({"token_overhead_ms": 1.5}, BLACKHOLE)
    asked = [
        dataclasses.replace(shapes()[0], model=model, device=device, tensor_parallel=1, mode=mode, batch=batch)
        for model in MODELS
        for device in ("P100", "P150")
        for mode in ("accuracy", "performance")
        for batch in (1, 8, 32)
    ]
    found = refit(made(asked, wanted), calibration_data(CALIBRATION_2025))
    assert found.values[BLACKHOLE]["token_overhead_ms"] == pytest.approx(
        truth(wanted, "token_overhead_ms", BLACKHOLE), rel=0.05
    )
    assert found.values[WORMHOLE] == {}
    assert "no row for this architecture" in found.kept[WORMHOLE]["token_overhead_ms"]


# --- what they cannot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constant", "keep", "reason"),
    [
        ("user_overhead_us", lambda row: row.batch == 1, "same number of users"),
        ("prefill_user_overhead_ms", lambda row: row.batch == 1, "same number of users"),
        ("sdpa_decode_us_per_64k", lambda row: row.seq == 128, "same number of tokens of context"),
        ("softmax_elements_per_cycle", lambda row: row.seq == 128, "same number of tokens of prompt"),
        ("group_overhead_ms", lambda row: row.data_parallel == 1, "data-parallel group"),
        ("layer_overhead_2d_us", lambda row: row.device != "TG", "2-D mesh"),
        ("prefill_chip_overhead_us", lambda row: row.tensor_parallel == 1, "tensor-parallel chips"),
    ],
)
def test_a_constant_that_the_rows_cannot_tell_is_kept(constant, keep, reason):
    rows = made([row for row in shapes() if keep(row)], perturbed(FACTORS[0]))
    found = refit(rows, calibration_data(CALIBRATION_2025), [*FEW, constant])
    assert constant not in found.values[WORMHOLE]
    assert reason in found.kept[WORMHOLE][constant]
    assert "token_overhead_ms" in found.values[WORMHOLE]


def test_of_constants_that_the_rows_cannot_tell_apart_one_is_fitted():
    one_shape = [row for row in shapes() if (row.model, row.device, row.seq) == ("Llama-3.1-8B", "N150", 128)]
    same = made([row for row in one_shape if row.mode == "accuracy"] * 6, perturbed({"token_overhead_ms": 1.5}))
    found = refit(same, calibration_data(CALIBRATION_2025))
    assert next(iter(found.values[WORMHOLE])) == "token_overhead_ms"
    assert "cannot separate it from" in found.kept[WORMHOLE]["layer_overhead_us"]


def test_an_effect_smaller_than_the_noise_is_not_fitted():
    rows = [dataclasses.replace(row, data_parallel=2, device="N300", tensor_parallel=1) for row in shapes()[:1]]
    rows += [row for row in shapes() if row.seq == 128 and row.batch == 1 and row.data_parallel == 1]
    found = refit(made(rows, load_calibration(CALIBRATION_2025)), calibration_data(CALIBRATION_2025))
    assert "barely depend" in found.kept[WORMHOLE]["group_overhead_ms"]


# --- which rows -----------------------------------------------------------------------------------------------------


def test_flagged_rows_and_those_of_other_models_are_not_fitted():
    wanted = perturbed(FACTORS[0])
    good = made(list(shapes()), wanted)
    poison = [
        dataclasses.replace(row, tokens_per_s_per_user=row.tokens_per_s_per_user / 5, ttft_ms=row.ttft_ms * 5)
        for row in good
    ]
    flagged = [dataclasses.replace(row, flag="faulty_host") for row in poison]
    others = [dataclasses.replace(row, model="Llama-3.2-3B") for row in poison]
    alone, together = (
        refit(good, calibration_data(CALIBRATION_2025), FEW),
        refit([*good, *flagged, *others], calibration_data(CALIBRATION_2025), FEW),
    )
    assert together.values == alone.values
    checked = {(errors.phase, errors.rows) for errors in together.errors if errors.split == "check"}
    assert ("decode", len(others) - 2) in checked  # two are of Blackhole


def test_the_fitted_models_can_be_chosen_and_default_to_those_of_the_split():
    rows = [row for row in shapes() if row.batch == 1 and row.seq == 128 and row.device in ("N150", "N300")]
    both = [*rows, *(dataclasses.replace(row, model="Llama-3.2-3B") for row in rows)]
    assert refit(both, calibration_data(CALIBRATION_2025), FEW).models == MODELS
    assert refit(both, calibration_data(CALIBRATION_2025), FEW, ["llama-3.2-3b"]).models == ("Llama-3.2-3B",)
    assert refit(both[len(rows) :], calibration_data(CALIBRATION_2025), FEW).models == ("Llama-3.2-3B",)
    with pytest.raises(ConfigError, match=r"Did you mean Llama-3\.2-3B"):
        refit(both, calibration_data(CALIBRATION_2025), fit_models=["Llama-3.2-4B"])


def test_rows_of_the_calibrated_release_are_preferred():
    theirs = made(list(shapes()), perturbed(FACTORS[0]), source="my own rack")
    ours = made(list(shapes()), load_calibration(CALIBRATION_2025), source=None)
    together = refit([*ours, *theirs], calibration_data(CALIBRATION_2025), FEW)
    assert together.left_out["decode"] == len(theirs)
    assert together.values == refit(ours, calibration_data(CALIBRATION_2025), FEW).values
    assert refit(theirs, calibration_data(CALIBRATION_2025), FEW).left_out == {"decode": 0, "prefill": 0}


def test_rows_without_a_prediction_are_passed_over():
    rows = made(list(shapes()), perturbed(FACTORS[0]))
    strange = [
        dataclasses.replace(rows[0], model="DeepSeek-V3"),
        dataclasses.replace(rows[0], device="T3K", tensor_parallel=3),
    ]
    found = refit([*rows, *strange], calibration_data(CALIBRATION_2025), FEW)
    assert found.values == refit(rows, calibration_data(CALIBRATION_2025), FEW).values
    assert list(found.refused.values()) == [[strange[0].line], [strange[1].line]]


def test_rows_of_one_kind_of_measurement_fit_its_phase_alone():
    rows = [dataclasses.replace(row, ttft_ms=None) for row in made(list(shapes()), perturbed(FACTORS[0]))]
    found = refit(rows, calibration_data(CALIBRATION_2025))
    assert {FREE[name].phase for name in found.values[WORMHOLE]} == {"decode"}
    assert found.sources["prefill"] == ()


def test_too_few_rows_are_refused():
    with pytest.raises(ConfigError, match=r"too few or too similar.*only 2 rows"):
        refit(made(list(shapes()[:2]), load_calibration(CALIBRATION_2025)), calibration_data(CALIBRATION_2025))


def test_what_cannot_be_fitted_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean token_overhead_ms"):
        refit(list(shapes()), calibration_data(CALIBRATION_2025), ["token_overhead"])
    with pytest.raises(ConfigError, match="readers_per_bank"):
        refit(list(shapes()), calibration_data(CALIBRATION_2025), ["readers_per_bank"])


# --- the file -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_rows() -> list[MeasuredRow]:
    return made([row for row in shapes() if row.device != "TG"], perturbed(FACTORS[0]), source="rack [3], 2026")


def test_calibration_text_reads_back_as_it_was():
    data = calibration_data(CALIBRATION_2025)
    assert yaml.safe_load(calibration_text(data)) == data
    assert all(len(line) < 600 for line in calibration_text(data).splitlines())


def test_small_numbers_are_written_without_an_exponent():
    assert calibration_text({"small": 0.00001}).endswith("small: 0.00001\n")


def test_releases_become_those_of_the_fitted_rows(own_rows):
    found = refit(own_rows, calibration_data(CALIBRATION_2025), FEW)
    data = refitted_data(
        calibration_data(CALIBRATION_2025), found, name="own", points="own.csv", today=datetime.date(2026, 11, 1)
    )
    calibration = Calibration.from_dict(data)
    assert {one.decode.kind for one in predict_rows(own_rows[:3], calibration)} == {"calibrated"}
    published = predict_rows(list(shapes()[:1]), calibration)
    assert published[0].decode.kind == "extrapolated"


def test_published_rows_keep_the_releases_pattern():
    found = Refit(MODELS, sources={"decode": tuple({row.source for row in shapes()})})
    data = refitted_data(
        calibration_data(CALIBRATION_2025), found, name="own", points="own.csv", today=datetime.date(2026, 11, 1)
    )
    assert data["confidence"]["releases"] == calibration_data(CALIBRATION_2025)["confidence"]["releases"]


def test_the_command_writes_a_complete_calibration(own_rows, tmp_path, capsys):
    points, out = write(tmp_path / "own.csv", own_rows), tmp_path / "conf" / "calibration" / "rack3.yaml"
    assert main(["--base", CALIBRATION_2025, "--points", str(points), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "kept layer_overhead_2d_us: no row is from a 2-D mesh" in said
    assert "% -> 0." in said
    assert "that is far off" not in said
    assert "Its bands are still those of tt_metal_2025" in said
    assert f"Predict with it: --config-dir {tmp_path / 'conf'} calibration=rack3" in said
    data, base = yaml.safe_load(out.read_text(encoding="utf-8")), calibration_data(CALIBRATION_2025)
    assert data["name"] == "rack3"
    assert "refitted on own.csv" in data["release"]
    fitted, kept = data["wormhole_b0"]["layer_overhead_us"], data["wormhole_b0"]["layer_overhead_2d_us"]
    assert fitted["value"] == pytest.approx(base["wormhole_b0"]["layer_overhead_us"]["value"] * 1.3, rel=0.02)
    assert fitted["source"].startswith("fitted by scripts/calibrate.py on own.csv, ")
    assert fitted["date"] == datetime.date.today().isoformat()
    assert kept == base["wormhole_b0"]["layer_overhead_2d_us"]
    assert data["blackhole"] == base["blackhole"]
    assert out.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: Apache-2.0\n")

    assert validate_main(["--points", str(points), "--calibration", str(out)]) == 0
    summary = capsys.readouterr().out.split("Summary, calibration rack3")[1]
    assert float(summary.split("all")[1].split()[1]) < 0.5
    command = [sys.executable, "scripts/run.py", "--config-dir", str(tmp_path / "conf"), "--cfg", "job"]
    done = subprocess.run([*command, "calibration=rack3"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "name: rack3" in done.stdout


def test_rows_that_cannot_be_predicted_are_named_with_their_lines(own_rows, tmp_path, capsys):
    of_two_kinds = [dataclasses.replace(row, device="N250") if row.line % 2 else row for row in own_rows]
    points, out = write(tmp_path / "own.csv", of_two_kinds), tmp_path / "rack3.yaml"
    names = ["--constants", "token_overhead_ms"]
    assert main(["--base", CALIBRATION_2025, "--points", str(points), "--out", str(out), *names]) == 0
    said = capsys.readouterr().out
    lines = [number for number, row in enumerate(of_two_kinds, start=2) if row.device == "N250"]
    assert f"left out lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}: no device named 'N250'" in said
    assert "that is far off: these rows may need another constant" in said
    assert "Predict with it: put it in DIR/calibration, then --config-dir DIR calibration=rack3" in said
    nowhere = write(tmp_path / "nowhere.csv", [dataclasses.replace(own_rows[0], device="N250")])
    assert main(["--points", str(nowhere), "--out", str(tmp_path / "none.yaml")]) == 2
    assert "line 2: no device named 'N250'" in capsys.readouterr().err


def test_an_existing_file_is_kept_unless_forced(own_rows, tmp_path, capsys):
    points, out = write(tmp_path / "own.csv", own_rows), tmp_path / "rack3.yaml"
    out.write_text("mine", encoding="utf-8")
    assert main(["--base", CALIBRATION_2025, "--points", str(points), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert (
        main(
            [
                "--base",
                CALIBRATION_2025,
                "--points",
                str(points),
                "--out",
                str(out),
                "--force",
                "--constants",
                "token_overhead_ms",
            ]
        )
        == 0
    )
    assert load_calibration(str(out)).name == "rack3"
    assert {path.name for path in tmp_path.iterdir()} == {"own.csv", "rack3.yaml"}


def test_a_fit_can_begin_with_a_fitted_file(own_rows, tmp_path):
    points, first, second = write(tmp_path / "own.csv", own_rows), tmp_path / "one.yaml", tmp_path / "two.yaml"
    names = ["--constants", ",".join(FEW)]
    assert main(["--base", CALIBRATION_2025, "--points", str(points), "--out", str(first), *names]) == 0
    assert (
        main(["--base", CALIBRATION_2025, "--points", str(points), "--out", str(second), *names, "--base", str(first)])
        == 0
    )
    base, one, two = (load_calibration(path).of(WORMHOLE) for path in (None, str(first), str(second)))
    assert one.token_overhead_ms > base.token_overhead_ms
    assert two.token_overhead_ms == pytest.approx(one.token_overhead_ms, rel=0.005)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--points", "none.csv"], "cannot read"),
        (["--points", "two.csv"], "too few"),
        (["--points", "own.csv", "--constants", "layer_overhead"], "Did you mean layer_overhead_us"),
        (["--points", "own.csv", "--fit", "Llama-9"], "no rows of 'Llama-9'"),
        (["--points", "own.csv", "--base", "tt_metal"], "no calibration named 'tt_metal'"),
        (["--points", "own.csv", "--out", "own.txt"], "must end in .yaml"),
    ],
)
def test_mistakes_end_in_a_line_and_two_and_write_nothing(own_rows, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own.csv", own_rows)
    write(tmp_path / "two.csv", own_rows[:2])
    out = [] if "--out" in arguments else ["--out", "new.yaml"]
    assert main([*arguments, *out]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"own.csv", "two.csv"}


@pytest.mark.parametrize(("factor", "refused"), [(29, False), (31, True), (1 / 29, False), (1 / 31, True)])
def test_a_figure_in_another_unit_is_refused_with_its_line(factor, refused):
    (row,) = made([shapes()[0]], load_calibration(CALIBRATION_2025))
    off = dataclasses.replace(row, ttft_ms=row.ttft_ms * factor, line=7)
    predictor = RowPredictor(load_calibration(CALIBRATION_2025))
    if refused:
        with pytest.raises(ConfigError, match=r"line 7 .*ttft_ms is .* milliseconds are expected"):
            predictor.predict(resolve_rows([off])[0])
        off = dataclasses.replace(off, flag="mine")
    assert predictor.predict(resolve_rows([off])[0]).prediction
