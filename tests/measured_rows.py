# SPDX-License-Identifier: Apache-2.0
"""Measured rows made by hand, and files of them."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from tt_transformers_v2.perf.measurements import REQUIRED, MeasuredRow

PUBLISHED_2026 = "conf/measurements/tt_metal_2026.csv"
CALIBRATION_2025 = "tt_metal_2025"  # of the rows of PUBLISHED
PUBLISHED = "conf/measurements/tt_metal_perf_md.csv"
SOURCE = "tt-metal models/tt_transformers/PERF.md @040a27c1 §Performance"


def row(**changes: object) -> MeasuredRow:
    """A row of the calibrated release, with `changes`."""
    values: dict = {
        "model": "Llama-3.2-1B",
        "device": "N300",
        "tensor_parallel": 2,
        "data_parallel": 1,
        "batch": 1,
        "seq": 128,
        "mode": "performance",
        "ttft_ms": None,
        "tokens_per_s_per_user": 100.0,
        "source": SOURCE,
        "line": 7,
    }
    return MeasuredRow(**values | changes)


def write(path: Path, rows: list[MeasuredRow]) -> Path:
    """`rows` as a CSV file at `path`."""
    fields = [field.name for field in dataclasses.fields(MeasuredRow)][: len(REQUIRED)]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([*REQUIRED, "flag"])
        for each in rows:
            values = [getattr(each, name) for name in fields]
            writer.writerow(["" if value is None else value for value in [*values, each.flag]])
    return path
