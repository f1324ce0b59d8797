# SPDX-License-Identifier: Apache-2.0
"""How a validation is shown: text for a terminal, JSON, and the page docs/validation.md."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..common.errors import ConfigError
from ..hardware.op_table import DECODE
from ..perf.measurements import MeasuredRow
from .measured_rows import cfg_formats
from .validation import SPEED_UP_GROUPS, Errors, Figure, SpeedUp, ValidatedRow, Validation

HEADER = (
    "model", "device", "TP", "DP", "users", "tokens", "mode", "how",
    "t/s/u", "pred.", "error", "in",
    "TTFT", "pred.", "error", "in",
    "class", "rows", "flag",
)  # fmt: skip
_LEFT = {0, 1, 6, 7, 16, 17, 18}  # columns of words
LEGEND = """\
users: per data-parallel group; tokens: prompt, and cache while decoding where it is stated; how: sampling, prefill \
and stack where they are stated; t/s/u: decode tokens/s/user; TTFT in ms; error: predicted / \
measured - 1, in percent.
in: whether the measurement is within prediction * (1 ± band). class: of the decode prediction, with the numbers of \
the notes below.
* TTFT measured on another release, or in another way, than the calibration; the summary counts it separately.
rows: the constants were fitted to the fit rows, not to the check rows. Rows flagged against are only shown.
mode a/b/c/d/e/f: bits of ff1 and ff3 / ff2 / wqkv / wo / KV cache / activations (m: 16 in attention, 8 in the MLP)."""


class _Notes:
    """Reasons numbered in the order in which rows first give them."""

    def __init__(self, rows: Iterable[ValidatedRow]) -> None:
        reasons = (reason for line in rows for reason in line.decode.confidence.reasons)
        self.numbers = {reason: number for number, reason in enumerate(dict.fromkeys(reasons), start=1)}

    def of(self, line: ValidatedRow) -> str:
        numbers = sorted(self.numbers[reason] for reason in line.decode.confidence.reasons)
        return " ".join([line.kind, ",".join(map(str, numbers))]).strip()

    def lines(self) -> list[str]:
        return [f"{number}: {reason}" for reason, number in self.numbers.items()]


def report_text(validation: Validation) -> str:
    """Every row and the summary as plain text."""
    notes = _Notes(validation.rows)
    cells = [_cells(line, notes) for line in validation.rows]
    parts = [*_aligned(HEADER, cells, _LEFT), "", *LEGEND.splitlines()]
    parts += ["", "Notes", *notes.lines(), "", *_summary_lines(validation)]
    return "\n".join(parts) + "\n"


def report_json(validation: Validation) -> str:
    """Every row and the summary as JSON; errors and bands in percent, null where there is none."""
    report = {
        "calibration": {"name": validation.calibration.name, "release": validation.calibration.release},
        "rows": [_row_dict(line) for line in validation.rows],
        "summary": {
            "flagged_rows": validation.flagged,
            "unsupported_rows": validation.unsupported,
            "decode": {e.name: _errors_dict(e) for e in validation.decode},
            "ttft": {e.name: _errors_dict(e) for e in validation.ttft},
            "speed_ups": [dataclasses.asdict(p) | {"deviation": p.deviation} for p in validation.speed_ups],
            "speed_up_mean_absolute_deviation": {
                group: found[0] for group in SPEED_UP_GROUPS if (found := validation.speed_up_deviation(group))
            },
        },
    }
    return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def report_markdown(validation: Validation, points: str, page: str = "docs/validation.md") -> str:
    """The page docs/validation.md; `points` is the measured file and `page` itself as the page should name them."""
    notes, calibration = _Notes(validation.rows), validation.calibration
    worst = sorted(
        (line for line in validation.rows if line.row.counts(DECODE) and line.decode.error is not None),
        key=lambda line: -abs(line.decode.error or 0.0),
    )[:8]
    fitted = ", ".join(dict.fromkeys(line.row.model for line in validation.rows if line.fitted))
    parts = [
        "# Predictions against published measurements",
        "",
        _INTRODUCTION.format(
            name=calibration.name, release=calibration.release, points=points, fitted=fitted, page=page
        ),
        "## Summary",
        "",
        f"Absolute error in percent over rows that count ({validation.flagged} do not, for what their flag says; "
        f"{validation.unsupported} that would have no prediction).",
        "",
        *_markdown_table(("Decode, tokens/s/user", *_ERROR_HEADER), map(_error_cells, validation.decode)),
        "",
        *_markdown_table(("Time to first token", *_ERROR_HEADER), map(_error_cells, validation.ttft)),
        "",
        *_left_out_lines(validation),
        f"Speed-up from accuracy to performance mode at batch 1: {_speed_up_sentence(validation)}",
        "",
        *_markdown_table(_SPEED_UP_HEADER, map(_speed_up_cells, validation.speed_ups)),
        "",
        "## Known errors",
        "",
        "The largest errors in tokens/s/user among rows that count:",
        "",
        *map(_known_error, worst),
        "",
        "## Every row",
        "",
        *(f"- {line}" for line in LEGEND.replace("* TTFT", r"\* marks a TTFT").splitlines()),
        "",
        *_markdown_table(HEADER, [_cells(line, notes) for line in validation.rows]),
        "",
        "Notes on class:",
        "",
        *(f"- {line}" for line in notes.lines()),
    ]
    return "\n".join(parts) + "\n"


_INTRODUCTION = """\
Calibration `{name}` ({release}) against every row of `{points}`. This page is generated by

    python scripts/validate_predictions.py --points {points} --calibration {name} --markdown {page}

and a test fails if it is out of date. The command takes measurements of your own in the same columns.

The constants whose source says "fitted" in `conf/provenance` were fitted to rows of {fitted} (see
`conf/measurements/split.yaml`); all other rows only check. Rows of a fitted model show how well the form fits, check
rows, and rows left out of the fit in turn, how well it predicts. `calibrated` predictions are inside what was fitted
and checked; `extrapolated` ones
are outside it in a way that the notes name, with a wider band; `unsupported` ones get no number. Measurements repeat
to within about 5 %, so a smaller error is luck. Rows with a flag that speaks against them are copies, other releases,
targets or experiments: they are shown but never counted.
"""
_ERROR_HEADER = ("rows", "mean", "median", "inside band")
_SPEED_UP_HEADER = ("pair", "measured", "predicted", "deviation")


def _left_out_lines(validation: Validation) -> list[str]:
    """The errors on rows that the fit was made without, as scripts/calibrate.py --left-out wrote them."""
    found = validation.calibration.confidence.get("left_out") or {}
    rows = [
        [f"{title}, each {by} left out in turn", str(own["rows"]), f"{own['mean']:.1f}", f"{own['median']:.1f}"]
        for by, phases in found.items()
        for phase, title in (("decode", "tokens/s/user"), ("prefill", "time to first token"))
        if (own := phases.get(phase))
    ]
    return (
        [*_markdown_table(("Without the rows of one model, or device", *_ERROR_HEADER[:3]), rows), ""] if rows else []
    )


def _known_error(line: ValidatedRow) -> str:
    """Predicted tokens/s/user with what its band allows, and what was measured."""
    figure = line.decode
    assert figure.measured is not None
    assert figure.predicted is not None
    low, high = (figure.predicted * (1 + sign * figure.confidence.band / 100) for sign in (-1, 1))
    return (
        f"- {line.row}: predicted {figure.predicted:.1f} ({line.kind}, {low:.1f} to {high:.1f}), "
        f"measured {figure.measured:.1f}; {_signed(figure.error)} %"
    )


def _summary_lines(validation: Validation) -> list[str]:
    counted = len(validation.rows) - validation.flagged
    lines = [
        f"Summary, calibration {validation.calibration.name}: absolute error in percent over {counted} rows; "
        f"{validation.flagged} are not counted for what their flag says, {validation.unsupported} are unsupported."
    ]
    for title, errors in (("decode, tokens/s/user", validation.decode), ("time to first token", validation.ttft)):
        if errors:
            lines += ["", *_aligned((title, *_ERROR_HEADER), list(map(_error_cells, errors)), {0})]
    lines += ["", "Speed-up from accuracy to performance mode at batch 1:", _speed_up_sentence(validation)]
    if validation.speed_ups:
        lines += _aligned(_SPEED_UP_HEADER, list(map(_speed_up_cells, validation.speed_ups)), {0})
    return lines


def _speed_up_sentence(validation: Validation) -> str:
    found = {group: validation.speed_up_deviation(group) for group in SPEED_UP_GROUPS}
    listed = [f"{own[0]:.3f} over {group} ({own[1]} pairs)" for group, own in found.items() if own]
    return f"mean absolute deviation {', '.join(listed)}." if listed else "no pair of rows."


def _error_cells(errors: Errors) -> list[str]:
    share = f"{errors.inside} ({errors.inside / errors.count:.0%})".replace("%", " %")
    return [errors.name, str(errors.count), f"{errors.mean:.1f}", f"{errors.median:.1f}", share]


def _speed_up_cells(pair: SpeedUp) -> list[str]:
    return [pair.name, f"{pair.measured:.3f}", f"{pair.predicted:.3f}", f"{pair.deviation:+.3f}"]


def _cells(line: ValidatedRow, notes: _Notes) -> list[str]:
    row = line.row
    other = "" if line.ttft.covered or line.ttft.error is None else "*"
    fitted = {True: "fit", False: "check", None: "-"}[line.fitted]
    cells = [row.model, row.device, str(row.tensor_parallel), str(row.data_parallel), str(row.batch), _tokens(row)]
    how = "/".join(str(way) for way in (row.sampling, row.prefill, row.stack) if way is not None)
    cells += [short_mode(row.mode), how, *_figure(line.decode), *_figure(line.ttft)]
    cells[14] += other
    return [*cells, notes.of(line), fitted, row.flag]


def _tokens(row: MeasuredRow) -> str:
    return f"{row.seq}/{row.context}" if row.context not in (None, row.seq) else str(row.seq)


def _figure(figure: Figure) -> list[str]:
    inside = {True: "yes", False: "no", None: "-"}[figure.inside]
    return [_number(figure.measured), _number(figure.predicted), _signed(figure.error), inside]


def short_mode(mode: str) -> str:
    """A mode as the table prints it: `cfg:` formats as bits, in the order that the legend gives; `-` where not said."""
    if not mode.startswith("cfg:"):
        return mode
    try:
        parts = cfg_formats(mode)
    except ConfigError:
        return mode
    bits = {"bfp4": "4", "bfp8": "8", "bf16": "16", "mixed": "m"}
    return "/".join(bits.get(parts.get(key, ""), "-") for key in ("ff13", "ff2", "wqkv", "wo", "kv", "act"))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1e7:
        return f"{value:.2g}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value:+.1g}"
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.1f}"


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    """Columns as wide as they need to be, so that nothing is cut."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in line) + " |" for line in lines]


def _row_dict(line: ValidatedRow) -> dict[str, Any]:
    row = line.row.as_dict()
    return row | {
        "decode": _figure_dict(line.decode),
        "ttft": _figure_dict(line.ttft),
        "class": line.kind,
        "fitted": line.fitted,
    }


def _figure_dict(figure: Figure) -> dict[str, Any]:
    confidence = figure.confidence
    return {
        "measured": figure.measured,
        "predicted": figure.predicted,
        "error_percent": figure.error,
        "class": confidence.kind,
        "band_percent": confidence.band if math.isfinite(confidence.band) else None,
        "inside_band": figure.inside,
        "covered_release": figure.covered,
        "reasons": list(confidence.reasons),
    }


def _errors_dict(errors: Errors) -> dict[str, float]:
    return {
        "rows": errors.count,
        "mean_percent": errors.mean,
        "median_percent": errors.median,
        "inside_band": errors.inside,
        "inside_band_share": errors.inside / errors.count,
    }
