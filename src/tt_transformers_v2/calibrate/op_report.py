# SPDX-License-Identifier: Apache-2.0
"""How op times against profiles are shown: text for a terminal, JSON, and the page docs/op-times.md."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..hardware.enums import Arch
from ..perf.calibration import Calibration
from ..perf.op_rows import OpRow
from .op_errors import CLASSES, ClassError, OpComparison, class_errors, compare_ops, op_class

MOST_WORST = 12  # rows of the largest errors that the page lists


@dataclass(frozen=True)
class OpReport:
    """Op rows of the file `path` against `calibration`: every comparison, the errors by class, and the same of `beside`
    (by its name), and with the constants fitted without each row's own model where that was asked for."""

    path: str
    rows: Sequence[OpRow]
    calibration: Calibration
    compared: Sequence[OpComparison]
    errors: Sequence[ClassError]
    beside: str
    beside_errors: Sequence[ClassError]
    left_out_errors: Sequence[ClassError]

    def other(self, errors: Iterable[ClassError], own: ClassError) -> ClassError | None:
        """The error among `errors` of the class and architecture of `own`."""
        return next((each for each in errors if (each.group, each.arch) == (own.group, own.arch)), None)


def op_report(
    rows: Sequence[OpRow], calibration: Calibration, beside: Calibration, path: str, *, leave_out: bool = False
) -> OpReport:
    """Compares the rows of the file `path`. Raises ConfigError for a row in another unit, with its line."""
    compared = compare_ops(rows, calibration, path)
    without = []
    if leave_out:
        from .op_fit import left_out  # loads numpy

        without = class_errors(left_out(rows, calibration, path))
    return OpReport(
        path,
        rows,
        calibration,
        compared,
        class_errors(compared),
        beside.name,
        class_errors(compare_ops(rows, beside, path)),
        without,
    )


_HEADER = ("class", "architecture", "rows", "median", "mean", "worst", "asked")


def _table(report: OpReport) -> list[list[str]]:
    """Percent, one line a class and architecture."""
    header = [*_HEADER, f"{report.beside} median", *(["own model left out"] if report.left_out_errors else [])]
    lines = [header]
    for error in report.errors:
        beside = report.other(report.beside_errors, error)
        line = [error.group, str(error.arch), str(error.rows)]
        line += [f"{value:.1f}" for value in (error.median, error.mean, error.worst)]
        line += [f"{error.target:g}" if error.target is not None else "-"]
        line += [f"{beside.median:.1f}" if beside is not None else "-"]
        if report.left_out_errors:
            without = report.other(report.left_out_errors, error)
            line.append(f"{without.median:.1f}" if without is not None else "-")
        lines.append(line)
    return lines


def _counts(report: OpReport) -> str:
    compared = {each.row.line for each in report.compared}
    flags = Counter(row.flag for row in report.rows if row.flag)
    silent = [row for row in report.rows if not row.flag and row.line not in compared]
    known = sum(bool(op_class(row)) for row in silent)
    flagged = ", ".join(f"{count} {flag}" for flag, count in flags.most_common()) or "none"
    return (
        f"{len(report.rows)} rows: {sum(not each.row.flag for each in report.compared)} compared; "
        f"{known} state too little (context, heads, formats); {len(silent) - known} are ops that predictions do not "
        f"have; {sum(flags.values())} have a flag ({flagged})"
    )


def op_report_text(report: OpReport) -> str:
    """Every compared row, then the errors by class."""
    lines = [
        f"{each.group:22}{str(each.row)[:62]:64}{each.row.us:>10.1f}{each.predicted:>10.1f}{each.error:>+8.0%}"
        f"  {each.row.flag}".rstrip()
        for each in report.compared
    ]
    table = _table(report)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    aligned = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in table)
    ]
    head = f"{'class':22}{'op':64}{'measured':>10}{'predicted':>10}{'error':>8}"
    title = _filled(f"Absolute errors in percent, calibration {report.calibration.name}; {_counts(report)}.")
    return "\n".join([head, *lines, "", title, "", *aligned]) + "\n"


def op_report_json(report: OpReport) -> str:
    """Every compared row and the errors by class; microseconds and percent."""
    found = {
        "calibration": report.calibration.name,
        "rows": [
            {
                "line": each.row.line,
                "class": each.group,
                "arch": str(each.chip.arch),
                "op": each.row.op,
                "shapes": each.row.shapes,
                "device": each.row.device,
                "measured_us": each.row.us,
                "predicted_us": each.predicted,
                "error_percent": each.error * 100,
                "flag": each.row.flag,
            }
            for each in report.compared
        ],
        "errors": [_error_json(error) for error in report.errors],
        report.beside: [_error_json(error) for error in report.beside_errors],
        "own_model_left_out": [_error_json(error) for error in report.left_out_errors],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _error_json(error: ClassError) -> dict[str, object]:
    return {
        "class": error.group,
        "arch": str(error.arch),
        "rows": error.rows,
        "median": error.median,
        "mean": error.mean,
        "worst": error.worst,
        "asked": error.target,
    }


def op_report_markdown(report: OpReport) -> str:
    """The page docs/op-times.md."""
    header, *lines = _table(report)
    table = [f"| {' | '.join(header)} |", f"| {' | '.join(['---'] * len(header))} |"]
    table += [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([_intro(report), *table, "", *_constants(report), "", *_worst(report)]) + "\n"


def _intro(report: OpReport) -> str:
    return f"""\
# Op times against profiles

Calibration `{report.calibration.name}` against the op times of `{report.path}`:
device kernel times from profiler reports under tt-metal's models/autoports and from its issues and pull requests. This
page is generated by

    python scripts/validate_predictions.py --ops {report.path} --markdown docs/op-times.md

{_filled(_counts(report) + ". " + _FLAGS)}

## Errors

Absolute error in percent over rows without a flag. `asked`: the median that this project asks of itself. The last
column is the median with constants fitted without any row of the model in question.
"""


_FLAGS = (
    "Flags: `untuned` is a functional prefill without program configs, `whole` a layer or a step, `target` an aim of a "
    "test, `dup` the same op of the same report, `before_change` the older half of a pull request's pair, "
    "`other_stack` a compiler's program, `shape_assumed` a shape that the report does not state. The reports were "
    'typed off by hand. "short" contexts are taken as 32 tokens.'
)


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _constants(report: OpReport) -> list[str]:
    lines = ["## What a layer's ops cost", "", "Constants are fitted by kind of op and architecture, never by row:", ""]
    named = [arch for arch in Arch if arch in report.calibration.archs and report.calibration.archs[arch].ops]
    lines += [f"| constant | {' | '.join(map(str, named))} |", f"| --- | {' | '.join(['---'] * len(named))} |"]
    first = report.calibration.archs[named[0]].ops if named else None
    for name in vars(first) if first else ():
        values = (getattr(report.calibration.archs[arch].ops, name) for arch in named)
        lines.append(f"| `{name}` | {' | '.join(f'{value:g}' for value in values)} |")
    return lines


def _worst(report: OpReport) -> list[str]:
    asked = [each for each in report.compared if not each.row.flag and CLASSES[each.group][2] is not None]
    lines = [
        "## Largest errors",
        "",
        "| line | op | measured us | predicted us | error |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in sorted(asked, key=lambda each: -abs(each.error))[:MOST_WORST]:
        lines.append(f"| {each.row.line} | {each.row} | {each.row.us:.1f} | {each.predicted:.1f} | {each.error:+.0%} |")
    return lines
