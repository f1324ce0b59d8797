# SPDX-License-Identifier: Apache-2.0
"""Refits the constants of the performance model to measured rows.

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..calibrate.calibration_file import calibration_text, refitted_data, without_provenance
from ..calibrate.free_constants import FREE
from ..calibrate.left_out import left_out, with_bands
from ..calibrate.measured_rows import calibration_data
from ..calibrate.op_errors import compare_ops
from ..calibrate.op_fit import fit_ops
from ..calibrate.op_fit_file import op_fit_lines, refitted_ops
from ..calibrate.refit import Refit, lines_of, refit
from ..common.command_names import command
from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.yaml_files import read_yaml_file
from ..perf.calibration import Calibration
from ..perf.measurements import read_points
from ..perf.op_rows import read_op_rows
from .command_line import CommandParser, run_command

_FAR = 10.0  # percent of mean error after a fit that says that the wrong constants were fitted
_APART = """\
Units, sources and dates of the constants: {provenance}.
Bands in percent, by phase: nine of ten rows whose model was left out of the fit lie within (--left-out); an entry of
`beyond` with few `rows` is assumed. `earlier`: constants that were otherwise before a date."""
_BESIDE = """\
Where the constants of {out} come from. `date` is the publication's, or when the project derived the constant ("fitted"
ones are fits to the published rows named in their source). `prior` is what is known of a constant besides those rows: a
value and a spread, as a share of it, from profiles of ops or from the other architecture; a spread of 0 is not
fitted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (default: the process's own) and returns the exit code."""
    return run_command(lambda given: _calibrate(_parser().read(given)), arguments)


def _calibrate(options: argparse.Namespace) -> None:
    if bool(options.points) == bool(options.ops):
        raise ConfigError("give measured rows: --points for tokens/s/user and TTFT, or --ops for op times.")
    out = Path(options.out)
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out} must end in .yaml.")
    if out.exists() and not options.force:
        raise ConfigError(f"{out} already exists.", "Add --force to replace it, or choose another --out.")
    base = calibration_data(options.base)
    if options.ops:
        _calibrate_ops(options, out, base)
        return
    points = Path(options.points)
    rows, constants = read_points(points), _names(options.constants)
    found = refit(rows, base, constants, _names(options.fit))
    data = refitted_data(base, found, name=out.stem, points=points.name, today=datetime.date.today())
    if options.left_out:
        by_model, by_device = (left_out(rows, data, constants, by) for by in ("model", "device"))
        data = with_bands(data, by_model, by_device)
    if options.provenance:
        _write_apart(data, out, Path(options.provenance))
    else:
        write_atomically(out, calibration_text(data), hint="Choose another --out.")
    print("\n".join(_report(base, found)))
    if options.left_out:
        print("\n".join(_left_out_lines(data)))
    print(f"\nwrote {out}; compare it row by row with:")
    fitted = f" --fit '{','.join(found.models)}'"
    print(f"  {command('validate_predictions')} --points {points} --calibration {out}{fitted}")
    if not options.left_out:
        print(f"Its bands are still those of {base['name']}; --left-out takes them from these rows.")
    print(_how_to_choose(out))


def _how_to_choose(out: Path) -> str:
    """How a command composes with the written file."""
    if out.parent.name == "calibration":
        return f"Predict with it: --config-dir {out.parent.parent} calibration={out.stem}"
    return f"Predict with it: put it in DIR/calibration, then --config-dir DIR calibration={out.stem}"


def _calibrate_ops(options: argparse.Namespace, out: Path, base: Mapping[str, Any]) -> None:
    if options.fit is not None or options.constants is not None:
        raise ConfigError("--fit and --constants go with --points: op costs are fitted by kind of op, all of them.")
    ops = Path(options.ops)
    rows, calibration = read_op_rows(ops), Calibration.from_dict(base)
    compare_ops(rows, calibration, str(ops))  # refuses rows in other units
    found = fit_ops(rows, calibration)
    data = refitted_ops(base, found, name=out.stem, ops=ops.name, today=datetime.date.today())
    write_atomically(out, calibration_text(data), hint="Choose another --out.")
    print("\n".join(op_fit_lines(base, found)))
    print(f"\nwrote {out}; compare it row by row with:")
    print(f"  {command('validate_predictions')} --ops {ops} --calibration {out}")
    print(_how_to_choose(out))


def _write_apart(data: Mapping[str, Any], out: Path, provenance: Path) -> None:
    """Values to `out`; their units, sources, dates and priors to `provenance`, as conf/ has them."""
    before = read_yaml_file(provenance)[1] if provenance.exists() else {}
    values, beside = without_provenance(data, before)
    write_atomically(out, calibration_text(values, _APART.format(provenance=provenance)), hint="Choose another --out.")
    write_atomically(provenance, calibration_text(beside, _BESIDE.format(out=out)), hint="Choose another --provenance.")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _report(base: Mapping[str, Any], found: Refit) -> list[str]:
    lines = [f"fitted to rows of {', '.join(found.models)}; the other rows only check"]
    for phase, count in found.left_out.items():
        if count:
            lines.append(f"{phase}: left out {count} rows of other releases than the calibration's")
    lines += [f"left out {lines_of(of)}: {reason}" for reason, of in found.refused.items()]
    for arch, values in found.values.items():
        lines += ["", str(arch)]
        for name, value in values.items():
            entry = base[arch.value][name]
            lines.append(f"  {name:26} {float(entry['value']):8g} -> {value:g}")
        lines += _kept_lines(found.kept[arch])
        lines += [
            f"  warning: the rows cannot tell {first} and {second} apart (cosine of their effects {cosine:.3f}); "
            "what is known of each besides decides"
            for first, second, cosine in found.alike.get(arch, [])
        ]
        for errors in (errors for errors in found.errors if errors.arch is arch):
            quantity = "tokens/s/user" if errors.phase == "decode" else "TTFT"
            lines.append(
                f"  mean error of {quantity} on {errors.rows} {errors.split} rows: "
                f"{errors.before:.1f} % -> {errors.after:.1f} %"
            )
            if errors.split == "fitted" and errors.after > _FAR:
                lines.append("  that is far off: these rows may need another constant; name it with --constants")
    return lines


def _left_out_lines(data: Mapping[str, Any]) -> list[str]:
    """The errors on rows whose model, or device, was left out of the fit."""
    lines = [""]
    for by, phases in data["confidence"]["left_out"].items():
        for phase, own in phases.items():
            quantity = "tokens/s/user" if phase == "decode" else "TTFT"
            lines.append(
                f"{quantity} with each {by} left out of the fit in turn: mean error {own['mean']:.1f} %, "
                f"median {own['median']:.1f} % on {own['rows']} rows"
            )
    return lines


def _kept_lines(kept: Mapping[str, str]) -> list[str]:
    """Constants with the same reason on one line."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in kept.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"  kept {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _parser() -> CommandParser:
    parser = CommandParser(
        "calibrate",
        description="Refits the constants that measured rows can determine, and writes a complete calibration file.",
        epilog=f"Constants that can be fitted: {', '.join(FREE)}.",
    )
    parser.add_argument("--points", metavar="FILE.csv", help="measured rows; see conf/measurements")
    parser.add_argument(
        "--ops", metavar="FILE.csv", help="op times instead, in the columns of conf/measurements/op_rows_2026.csv"
    )
    parser.add_argument("--out", required=True, metavar="FILE.yaml", help="the calibration file to write")
    parser.add_argument(
        "--base", metavar="NAME|FILE.yaml", help="constants to start from (default: those of conf/config.yaml)"
    )
    parser.add_argument(
        "--constants", metavar="NAME,...", help="constants to fit (default: those that depend on software)"
    )
    parser.add_argument(
        "--fit", metavar="MODEL,...", help="models to fit; the others only check (default: those of split.yaml)"
    )
    parser.add_argument(
        "--provenance",
        metavar="FILE.yaml",
        help="write units, sources, dates and priors here instead, as conf/ has them",
    )
    parser.add_argument(
        "--left-out",
        action="store_true",
        help="also fit without each model and each device in turn, and write the bands that follow (minutes)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    return parser
