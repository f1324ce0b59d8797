# SPDX-License-Identifier: Apache-2.0
"""Calibrated weights as lines of text: what they are worth on unseen text, and where rounding errs most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST_ERRING = 5


def section_lines(section: Mapping[str, Any]) -> Iterator[Any]:
    """Lines and tables for rich's console, from the `quantize` section of a result."""
    from rich.table import Table

    yield f"[dim]{section['basis']}[/]"
    yield (
        f"[bold]{section['calibrated_matrices']}[/] matrices calibrated on {section['tokens']} tokens of "
        f"{section['text']} in {section['calibration_seconds']:.0f} s"
    )
    left = section.get("left_at_nearest", 0)
    if left:
        yield f"{left} matrices rounded to nearest, which quantize.calibrated does not name"
    if unreached := section["nearest_matrices"] - left:
        yield f"[yellow]{unreached} matrices of experts that too few tokens reached are rounded to nearest[/]"
    for line in section["warnings"]:
        yield f"[yellow]{line}[/]"
    table = Table("verified on", "tokens", "numerics", "KL nearest", "KL calibrated", "top-1 nearest", "calibrated")
    for row in section["verified"]:
        before, after = row["nearest"], row["calibrated"]
        table.add_row(
            f"{row['how']} ({row['text']})",
            str(row["tokens"]),
            row["numerics"],
            *(f"{each['kl_divergence']:.4f}" for each in (before, after)),
            *(f"{each['top1']:.1%}" for each in (before, after)),
        )
    yield table
    worst = sorted(section["layers"], key=lambda row: -row["calibrated"])[:_MOST_ERRING]
    named = ", ".join(f"layer {row['layer']} {row['nearest']:.2%} to {row['calibrated']:.2%}" for row in worst)
    yield f"largest errors of outputs on the calibration text: {named}"
    yield f"use it with quantize.weights={section['out']}, or as a model with model=hf model.path={section['out']}"
