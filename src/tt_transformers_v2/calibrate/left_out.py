# SPDX-License-Identifier: Apache-2.0
"""How far predictions are off on rows that did not give the constants, and the bands that follow from it.

Every model, and every device, is left out of a fit in turn and then predicted. A band is the share of a prediction
within which nine of ten such rows of its kind lie; where few rows are of a kind, the furthest of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from ..common.errors import ConfigError
from ..hardware.op_table import PHASES
from ..perf.calibration import Calibration
from ..perf.confidence import ConfidenceRules
from ..perf.measurements import MeasuredRow
from ..perf.prediction import predict
from .fit_points import Point, measured_points
from .refit import refit_points

WITHIN = 0.9  # share of the rows that a band holds
FEW = 10  # rows of a kind below which its band is the largest deviation instead
FEW_MODELS = 3
LEAST_BAND = 5.0  # percent; measurements repeat no better
LEFT_OUT: dict[str, Callable[[Point], str]] = {
    "model": lambda point: point.row.model,
    "device": lambda point: point.row.device,
}


@dataclass(frozen=True)
class LeftOut:
    """A row and its error, (predicted / measured - 1) in percent, with constants that rows like it did not give.

    outside: the ways in which it is outside what the calibration covers, by their names in its `beyond`.
    """

    point: Point
    error: float
    outside: frozenset[str]

    @property
    def band(self) -> float:
        """The least band, in percent of the prediction, that holds the measurement."""
        return abs(1 / (1 + self.error / 100) - 1) * 100


def left_out(
    rows: Iterable[MeasuredRow], data: Mapping[str, Any], constants: Sequence[str] | None = None, by: str = "model"
) -> list[LeftOut]:
    """Every row that counts, predicted by a fit without the rows of its model (or `by` "device").

    `data`: a calibration as plain data, which each fit starts from. Raises ConfigError where there is nothing to leave
    out.
    """
    key, calibration = LEFT_OUT[by], Calibration.from_dict(data)
    points, _ = measured_points(rows, calibration)
    names = list(dict.fromkeys(map(key, points)))
    if len(names) < 2:
        raise ConfigError(f"all rows are of one {by}: there is nothing to leave out.")
    rules = ConfidenceRules.from_dict(data["confidence"])
    found = []
    for name in names:
        fitted = refit_points([point for point in points if key(point) != name], data, constants)
        for point in points:
            if key(point) == name:
                own = calibration.of(point.arch).replace(**fitted.values[point.arch])
                error = (math.exp(point.residual(own)) - 1) * 100
                found.append(LeftOut(point, error, _outside(point, calibration, rules)))
    return found


def _outside(point: Point, calibration: Calibration, rules: ConfidenceRules) -> frozenset[str]:
    experiment = point.experiment
    switched = calibration.at(point.row.date).replace(**experiment.config.runtime.constants())
    prediction = predict(
        experiment.hardware,
        experiment.spec,
        switched,
        prompt_length=point.row.seq,
        batch=point.row.batch,
        context=point.context,
    )
    return prediction.outside


def errors_of(found: Iterable[LeftOut]) -> dict[str, dict[str, float]]:
    """By phase, how many rows, and their mean and median absolute error in percent."""
    summary = {}
    for phase in PHASES:
        errors = [abs(each.error) for each in found if each.point.phase == phase]
        if errors:
            summary[phase] = {"rows": len(errors), "mean": round(mean(errors), 1), "median": round(median(errors), 1)}
    return summary


def with_bands(data: Mapping[str, Any], by_model: Sequence[LeftOut], by_device: Sequence[LeftOut]) -> dict[str, Any]:
    """The calibration with `band` and the bands of `beyond` from residuals, and the errors of rows left out.

    An entry of `beyond` that fewer than FEW rows, or fewer than FEW_MODELS models, are in keeps its band where that is
    wider: it is assumed.
    """
    found: dict[str, Any] = copy.deepcopy(dict(data))
    confidence = found["confidence"]
    confidence["left_out"] = {"model": errors_of(by_model), "device": errors_of(by_device)}
    for phase in PHASES:
        own = [each for each in by_model if each.point.phase == phase]
        inside = [each.band for each in own if not each.outside]
        if inside:
            confidence["band"][phase] = band(inside)
        for name, entry in confidence["beyond"].items():
            rows = [each for each in own if name in each.outside]
            entry["rows"] = len(rows) + (entry.get("rows", 0) if phase != PHASES[0] else 0)
            if rows:
                widest = max(band([each.band for each in rows]), confidence["band"][phase])
                few = len(rows) < FEW or len({each.point.row.model for each in rows}) < FEW_MODELS
                entry[phase] = max(widest, float(entry[phase])) if few else widest
    return found


def band(bands: Sequence[float]) -> float:
    """The band, in whole percent, of rows that need `bands`."""
    ordered = sorted(bands)
    index = len(ordered) - 1 if len(ordered) < FEW else math.ceil(WITHIN * len(ordered)) - 1
    return float(math.ceil(max(ordered[index], LEAST_BAND)))
