# SPDX-License-Identifier: Apache-2.0
"""Compares predictions with measured rows.

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..calibrate.measured_rows import fitted_to, load_calibration
from ..calibrate.op_report import op_report, op_report_json, op_report_markdown, op_report_text
from ..calibrate.validation import validate
from ..calibrate.validation_report import report_json, report_markdown, report_text
from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..perf.measurements import read_points
from ..perf.op_rows import read_op_rows
from .command_line import CommandParser, run_command

BEFORE = "tt_metal_2025"  # the calibration whose errors stand beside those of op times


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (default: the process's own) and returns the exit code."""
    return run_command(lambda given: _validate(_parser().read(given)), arguments)


def _validate(options: argparse.Namespace) -> None:
    if bool(options.points) == bool(options.ops):
        raise ConfigError("give measured rows: --points for tokens/s/user and TTFT, or --ops for op times.")
    if options.ops:
        _validate_ops(options)
        return
    models = None if options.fit is None else [name.strip() for name in options.fit.split(",")]
    chosen = options.calibration or fitted_to(Path(options.points).name)
    validation = validate(read_points(options.points), load_calibration(chosen), models)
    if options.markdown:
        page = report_markdown(validation, options.points, options.markdown)
        write_atomically(Path(options.markdown), page, hint="Choose another file for --markdown.")
        print(f"wrote {options.markdown}")
    else:
        print(report_json(validation) if options.json else report_text(validation), end="")


def _validate_ops(options: argparse.Namespace) -> None:
    if options.fit is not None:
        raise ConfigError("--fit goes with --points: op times are not split by model.")
    rows, page = read_op_rows(options.ops), bool(options.markdown)
    calibration, beside = load_calibration(options.calibration), load_calibration(BEFORE)
    report = op_report(rows, calibration, beside, options.ops, leave_out=page)
    if page:
        write_atomically(Path(options.markdown), op_report_markdown(report), hint="Choose another file for --markdown.")
        print(f"wrote {options.markdown}")
    else:
        print(op_report_json(report) if options.json else op_report_text(report), end="")


def _parser() -> CommandParser:
    parser = CommandParser(
        "validate_predictions",
        description="Compares predictions with measured rows: every row, then the errors by class and workload.",
    )
    parser.add_argument("--points", metavar="FILE.csv", help="measured rows; see conf/measurements")
    parser.add_argument(
        "--ops", metavar="FILE.csv", help="op times instead, in the columns of conf/measurements/op_rows_2026.csv"
    )
    parser.add_argument(
        "--calibration",
        metavar="NAME|FILE.yaml",
        help="constants to use (default: those fitted to the file, or those of conf/config.yaml)",
    )
    parser.add_argument(
        "--fit", metavar="MODEL,...", help="models that the constants were fitted to (default: those of split.yaml)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", metavar="FILE.md", help="write a page such as docs/validation.md")
    return parser
