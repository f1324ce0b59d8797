# SPDX-License-Identifier: Apache-2.0
"""Writes the predicted decode step as the profiler's ops CSV, for tt-perf-report and whatever else reads profiles."""

from __future__ import annotations

from pathlib import Path

from ..common.files import write_atomically
from ..perf.decode_profile import decode_profile
from ..perf.ops_csv import ops_csv
from ..perf.prediction import Prediction


def write_ops_csv(prediction: Prediction, path: Path) -> str:
    """Writes the file and returns a line that says what it holds.

    Raises ConfigError where it cannot be written, and for calibrations that know no single ops.
    """
    ops, left = decode_profile(prediction)
    system = prediction.hardware.spec
    cores = system.grid[0] * system.grid[1]
    text = ops_csv(ops, arch=system.chip.arch.value, cores=cores)
    write_atomically(path, text, hint="Choose another file.")
    listed = sum(op.us + op.gap_us for op in ops)
    return (
        f"ops CSV: {path}: {len(ops)} device ops of one chip, {listed / 1e3:.3f} ms with gaps; "
        f"{left / 1e3:.3f} ms of the step are not in it (sampling, host, rest of layers)"
    )
