# SPDX-License-Identifier: Apache-2.0
"""Op times against profiles: the errors that are asked for, the fit of op costs, and what a row must be."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
import yaml

from places import ROOT
from tt_transformers_v2.calibrate.op_errors import CLASSES, UNIT_FACTOR, chip_of, class_errors, compare_ops, op_class
from tt_transformers_v2.calibrate.op_fit import FREE, LEAST_ROWS, fit_ops, left_out
from tt_transformers_v2.calibrate.op_fit_file import op_fit_lines, refitted_ops
from tt_transformers_v2.calibrate.op_report import op_report, op_report_markdown
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.hardware.enums import Arch
from tt_transformers_v2.perf.calibration import Calibration
from tt_transformers_v2.perf.op_row_times import op_row_us
from tt_transformers_v2.perf.op_rows import read_op_rows

OPS = "conf/measurements/op_rows_2026.csv"
PAGE = ROOT / "docs/op-times.md"
ROWS = read_op_rows(ROOT / OPS)


def data(name="tt_metal_2026"):
    return yaml.safe_load((ROOT / f"conf/calibration/{name}.yaml").read_text(encoding="utf-8"))


NEW, OLD = Calibration.from_dict(data()), Calibration.from_dict(data("tt_metal_2025"))
ERRORS = class_errors(compare_ops(ROWS, NEW, OPS))


@pytest.mark.parametrize("error", [e for e in ERRORS if e.target], ids=lambda e: f"{e.group}-{e.arch}")
def test_op_times_are_as_near_to_profiles_as_is_asked(error):
    assert error.median <= error.target
    assert error.rows >= 2


def test_the_calibration_of_2025_is_further_off_in_every_class():
    old = {(e.group, e.arch): e for e in class_errors(compare_ops(ROWS, OLD, OPS))}
    assert old
    for error in ERRORS:
        if (error.group, error.arch) in old:
            assert error.median < old[error.group, error.arch].median


@pytest.mark.slow
def test_models_that_were_left_out_of_the_fit_are_within_a_quarter_of_what_is_asked():
    for error in class_errors(left_out(ROWS, NEW, OPS)):
        if error.target:
            assert error.median <= 1.25 * error.target, (error.group, error.arch)


@pytest.mark.slow
def test_the_page_of_op_times_is_up_to_date():
    report = op_report(ROWS, NEW, OLD, OPS, leave_out=True)
    assert PAGE.read_text(encoding="utf-8") == op_report_markdown(report), (
        f"run: python scripts/validate_predictions.py --ops {OPS} --markdown docs/op-times.md"
    )


def synthetic(constants, arch):
    """The packaged rows with the times that `constants` predict: what a fit should find again."""
    rows = []
    for row in ROWS:
        chip = chip_of(row) if op_class(row) and not row.flag else None
        if chip is not None and chip.arch is arch:
            us = op_row_us(row, chip, constants)
            if us:
                rows.append(dataclasses.replace(row, us=us))
    return rows


@pytest.mark.parametrize("group", ["decode matmul", "decode attention", "heads, RoPE, cache", "collective"])
def test_constants_that_made_rows_are_found_again(group):
    arch = Arch.blackhole
    own = NEW.of(arch)
    assert own.ops is not None
    true = {"decode matmul": "matmul_us", "decode attention": "sdpa_decode_us", "heads, RoPE, cache": "rope_us"}
    name = true.get(group)
    if name:
        truth = own.replace(**{name: getattr(own.ops, name) * 1.4})
        wanted = getattr(truth.ops, name)
    else:
        assert own.all_reduce_ring is not None
        name, wanted = "all_reduce_ring.gbs", own.all_reduce_ring.gbs * 1.4
        truth = own.replace(all_reduce_ring=dataclasses.replace(own.all_reduce_ring, gbs=wanted))
    fit = fit_ops(synthetic(truth, arch), NEW, [group])
    assert fit.values[arch][name] == pytest.approx(wanted, rel=0.05)


def test_no_constant_collapses_and_none_leaves_its_bounds():
    fit = fit_ops(ROWS, NEW)
    for arch, values in fit.values.items():
        for name, value in values.items():
            _, most = next(sizes[name] for sizes in FREE.values() if name in sizes)
            assert 0 <= value <= most, (arch, name)
            if name.endswith(("efficiency", "gbs", "elements_per_cycle")):
                assert value > 0


def test_rows_that_differ_in_nothing_cannot_tell_two_constants_apart():
    one = next(row for row in ROWS if row.kind == "silu_mul" and not row.flag and row.device.startswith("P300"))
    fit = fit_ops([one] * 4, NEW, ["product and addition"])
    assert ("gated_us", "gated_tile_us") in fit.alike[Arch.blackhole]
    said = "\n".join(op_fit_lines(data(), fit))
    assert "can hardly tell gated_us from gated_tile_us" in said


@pytest.mark.parametrize(("rows", "fitted"), [(LEAST_ROWS - 1, False), (LEAST_ROWS, True)])
def test_too_few_rows_leave_a_constant_as_it_was(rows, fitted):
    ropes = [row for row in ROWS if row.kind == "rope" and not row.flag and row.device.startswith("P300")][:rows]
    moves = [row for row in ROWS if row.kind == "move" and not row.flag and row.device.startswith("P300")]
    fit = fit_ops([*ropes, *moves], NEW)
    assert ("rope_us" in fit.values[Arch.blackhole]) is fitted
    if not fitted:
        assert fit.kept[Arch.blackhole]["rope_us"].startswith(f"rows that depend on it: {rows};")
        assert fit.constants[Arch.blackhole].ops.rope_us == NEW.of(Arch.blackhole).ops.rope_us


def test_a_fit_without_rows_and_one_without_op_costs_are_refused():
    with pytest.raises(ConfigError, match="too few to fit any constant"):
        fit_ops(ROWS[:1], NEW)
    with pytest.raises(ConfigError, match="tt_metal_2025 has no costs of single ops"):
        fit_ops(ROWS, OLD)


def test_a_fitted_file_names_its_rows_and_reads_as_a_calibration():
    fit = fit_ops(ROWS, NEW)
    found = refitted_ops(data(), fit, name="mine", ops="own.csv", today=datetime.date(2026, 11, 28))
    assert Calibration.from_dict(found).of(Arch.blackhole).ops == fit.constants[Arch.blackhole].ops
    assert "own.csv" in found["blackhole"]["matmul_us"]["source"]
    kept, before = (each["blackhole"]["all_reduce_ring"]["value"]["hop_us"] for each in (found, data()))
    assert kept == before


def first(kind="matmul"):
    return next(row for row in ROWS if row.kind == kind and not row.flag and row.device == "N150")


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "milliseconds"), (1e3, "nanoseconds")])
def test_times_in_another_unit_are_named_with_file_and_line(factor, unit):
    row = dataclasses.replace(first(), us=first().us * factor, line=7)
    with pytest.raises(ConfigError, match=f"own.csv, line 7: .* this looks like {unit}"):
        compare_ops([row], NEW, "own.csv")
    assert compare_ops([dataclasses.replace(row, flag="untuned")], NEW, "own.csv")


def test_a_time_just_within_the_factor_is_an_error_and_no_other_unit():
    predicted = op_row_us(first(), chip_of(first()), NEW.of(Arch.wormhole_b0))
    (found,) = compare_ops([dataclasses.replace(first(), us=predicted / (UNIT_FACTOR * 0.999))], NEW)
    assert found.error == pytest.approx(UNIT_FACTOR * 0.999 - 1)
    with pytest.raises(ConfigError, match="milliseconds"):
        compare_ops([dataclasses.replace(first(), us=predicted / (UNIT_FACTOR * 1.001))], NEW)


def test_an_unknown_device_is_named_with_file_and_line():
    row = dataclasses.replace(first(), device="N151", line=9)
    with pytest.raises(ConfigError, match=r"own\.csv, line 9: no device named 'N151'"):
        compare_ops([row], NEW, "own.csv")


def test_flagged_rows_are_compared_and_never_counted():
    row = dataclasses.replace(first(), us=first().us * 10, flag="whole")
    compared = compare_ops([row, first()], NEW)
    assert len(compared) == 2
    (error,) = class_errors(compared)
    assert error.rows == 1


def test_every_class_has_constants_to_fit():
    assert set(FREE) == set(CLASSES)
