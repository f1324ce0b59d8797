# SPDX-License-Identifier: Apache-2.0
"""The `quantize` section of a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.weights import WeightSource
from .quantized_folder import Record
from .unseen_quality import Quality


def quantize_section(
    record: Record,
    quality: Sequence[Quality],
    *,
    out: Path,
    source: WeightSource,
    seconds: float,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """What was written where, each matrix's error before and after, and the quality on unseen text."""
    counted = [row for row in record.rows if row.calibrated is not None and row.damping is not None]
    return {
        "basis": f"second-order rounding in float32; {source.basis}; verified by emulation against float32 reference",
        "out": str(out),
        "text": record.calibration["text"],
        "tokens": record.calibration["tokens"],
        "damping": record.asked["damping"],
        "act_order": record.asked["act_order"],
        "calibration_seconds": seconds,
        "calibrated_matrices": len(counted),
        "nearest_matrices": len(record.rows) - len(counted),
        "left_at_nearest": sum(not row.asked for row in record.rows),
        "inputs": record.asked["inputs"],
        "warnings": list(warnings),
        "verified": [dataclasses.asdict(each) for each in quality],
        "layers": layer_errors(record),
        "matrices": [dataclasses.asdict(row) for row in record.rows],
    }


def layer_errors(record: Record) -> list[dict[str, Any]]:
    """Each layer's matrices: root mean square of their outputs' relative errors, nearest and calibrated."""
    rows = []
    for layer in sorted({row.layer for row in record.rows}):
        own = [row for row in record.rows if row.layer == layer and row.asked and row.calibrated is not None]
        if own:
            rows.append(
                {"layer": layer, "matrices": len(own)}
                | {name: _root_mean([getattr(row, name) for row in own]) for name in ("nearest", "calibrated")}
            )
    return rows


def _root_mean(values: Sequence[float]) -> float:
    return float((sum(value**2 for value in values) / len(values)) ** 0.5)
