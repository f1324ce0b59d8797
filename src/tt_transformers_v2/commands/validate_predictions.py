# SPDX-License-Identifier: Apache-2.0
"""Compares predictions with measured rows.

Exit codes: 0 done, 2 a user error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..calibrate.measured_rows import load_calibration
from ..calibrate.validation import validate
from ..calibrate.validation_report import report_json, report_markdown, report_text
from ..common.files import write_atomically
from ..perf.measurements import read_points
from .command_line import CommandParser, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line `arguments` (default: the process's own) and returns the exit code."""
    return run_command(lambda given: _validate(_parser().read(given)), arguments)


def _validate(options: argparse.Namespace) -> None:
    models = None if options.fit is None else [name.strip() for name in options.fit.split(",")]
    validation = validate(read_points(options.points), load_calibration(options.calibration), models)
    if options.markdown:
        page = report_markdown(validation, options.points)
        write_atomically(Path(options.markdown), page, hint="Choose another file for --markdown.")
        print(f"wrote {options.markdown}")
    else:
        print(report_json(validation) if options.json else report_text(validation), end="")


def _parser() -> CommandParser:
    parser = CommandParser(
        "validate_predictions",
        description="Compares predictions with measured rows: every row, then the errors by class and workload.",
    )
    parser.add_argument("--points", required=True, metavar="FILE.csv", help="measured rows; see conf/measurements")
    parser.add_argument(
        "--calibration", metavar="NAME|FILE.yaml", help="constants to use (default: those of conf/config.yaml)"
    )
    parser.add_argument(
        "--fit", metavar="MODEL,...", help="models that the constants were fitted to (default: those of split.yaml)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", metavar="FILE.md", help="write a page such as docs/validation.md")
    return parser
