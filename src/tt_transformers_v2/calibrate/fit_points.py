# SPDX-License-Identifier: Apache-2.0
"""Measured rows as points of a fit: what each leaves between measurement and prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.resolve import Experiment
from ..hardware.enums import Arch
from ..hardware.op_table import DECODE, PHASES
from ..perf.calibration import ArchCalibration, Calibration
from ..perf.measurements import MeasuredRow
from ..perf.prediction import confidence_rules
from ..perf.roofline import decode_us, ttft_ms
from .measured_rows import PredictedRow, RowPredictor, resolve_rows


@dataclass(frozen=True)
class Point:
    """A row that can be predicted, and its measurement for one phase (tokens/s/user, or ms)."""

    row: MeasuredRow
    experiment: Experiment
    phase: str
    measured: float
    earlier: Mapping[str, Any] = field(default_factory=dict)

    def residual(self, constants: ArchCalibration) -> float:
        """log(predicted / measured) with `constants`; the switches of the row's own runtime are kept."""
        switches = {**self.earlier, **self.experiment.config.runtime.constants()}
        own = constants.replace(**switches) if switches else constants
        workload = self.experiment.config.workload
        hw, spec, batch = self.experiment.hardware, self.experiment.spec, self.row.batch
        if self.phase == DECODE:
            return -math.log(decode_us(hw, spec, own, batch=batch, context=self.context) * self.measured / 1e6)
        users = workload.prefill_users or batch
        predicted = ttft_ms(hw, spec, own, prompt_length=self.row.seq, batch=batch, users=users)
        return math.log(predicted / self.measured)

    @property
    def context(self) -> int:
        """Tokens in the cache while decoding."""
        return self.row.context or self.row.seq

    @property
    def arch(self) -> Arch:
        """The architecture it was measured on."""
        arch: Arch = self.experiment.hardware.spec.chip.arch
        return arch

    @property
    def two_d(self) -> bool:
        """Whether it was split over both axes of a mesh."""
        return self.row.tensor_parallel > max(self.experiment.hardware.spec.mesh_shape)


def measured_points(rows: Iterable[MeasuredRow], calibration: Calibration) -> tuple[list[Point], dict[str, int]]:
    """What can be fitted or checked, and by phase how many rows of other releases were left out."""
    predictor, rules = RowPredictor(calibration), confidence_rules(calibration)
    counted = [row for row in rows if any(row.counts(phase) for phase in PHASES)]
    predicted = [predictor.predict(own) for own in resolve_rows(counted)]
    points, left_out = [], {}
    for phase in PHASES:
        own = []
        for each in predicted:
            measured = each.row.tokens_per_s_per_user if phase == "decode" else each.row.ttft_ms
            if each.prediction and each.experiment and measured is not None and each.row.counts(phase):
                own.append(Point(each.row, each.experiment, phase, measured, _earlier(calibration, each)))
        covered = [point for point in own if rules.covers(point.row, phase)]
        left_out[phase] = len(own) - len(covered) if covered else 0
        points += covered or own
    return points, left_out


def _earlier(calibration: Calibration, each: PredictedRow) -> dict[str, Any]:
    """The constants that a row's date takes from earlier software, which no fit changes."""
    assert each.experiment is not None
    found: dict[str, Any] = {}
    arch, date = each.experiment.hardware.spec.chip.arch, each.row.date
    for change in calibration.earlier:
        if change.arch is arch and date and date < change.until[: len(date)]:
            found |= change.constants
    return found
