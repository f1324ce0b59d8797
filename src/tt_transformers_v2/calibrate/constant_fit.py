# SPDX-License-Identifier: Apache-2.0
"""Fits constants of one architecture and phase to points, by least squares with a soft-L1 loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..perf.calibration import ArchCalibration
from .fit_points import Point
from .free_constants import FREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE = 0.05  # repeatability of a measurement, and where the loss turns from quadratic to linear
LEAST_ROWS = 3  # by architecture and phase
_WORST_ERROR = 0.5  # a constant counts as identified when its standard error is at most this share of it
_ALIKE = 0.98  # cosine of two constants' effects on the residuals from which the rows cannot tell them apart
_STEP = 1e-4  # of numerical derivatives, in sizes of a constant
_TINY = 1e-6  # change of the residuals below which no row depends on a constant

# Why no row can tell a constant, asked before any arithmetic: a reason, or "".
_Question = Callable[[Sequence[Point]], str]
_OBVIOUS: dict[str, _Question] = {
    "user_overhead_us": lambda points: _same_everywhere("users", {p.row.batch for p in points}),
    "prefill_user_overhead_ms": lambda points: _same_everywhere("users", {p.row.batch for p in points}),
    "sdpa_decode_us_per_64k": lambda points: _same_everywhere(
        "tokens of context", {p.row.context or p.row.seq for p in points}
    ),
    "softmax_elements_per_cycle": lambda points: _same_everywhere("tokens of prompt", {p.row.seq for p in points}),
    "group_overhead_ms": lambda points: (
        "" if any(p.row.data_parallel > 1 for p in points) else "no row has more than one data-parallel group"
    ),
    "layer_overhead_2d_us": lambda points: "" if any(p.two_d for p in points) else "no row is from a 2-D mesh",
    "prefill_chip_overhead_us": lambda points: _same_everywhere(
        "tensor-parallel chips", {p.row.tensor_parallel for p in points}
    ),
}


def _same_everywhere(what: str, seen: set[int]) -> str:
    return "" if len(seen) > 1 else f"every row has the same number of {what}"


@dataclass
class ConstantFit:
    """One phase of one architecture."""

    constants: ArchCalibration
    points: list[Point]
    names: list[str]
    priors: Mapping[str, tuple[float, float]]
    fitted: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    def run(self) -> ArchCalibration:
        """The constants after the fit, rounded."""
        if len(self.points) < LEAST_ROWS:
            count = len(self.points)
            have = (
                f"only {count} row{'s' * (count > 1)} for this architecture"
                if count
                else "no row for this architecture"
            )
            self.kept = dict.fromkeys(self.names, f"{have}; at least {LEAST_ROWS} are needed")
            return self.constants
        at = self.constants
        # What the slower of two ways hides at the old constants may show at the new ones.
        for _ in range(3):
            known = self._identified(at)
            if set(known) <= set(self.fitted):
                break
            self.fitted = [name for name in self.names if name in {*known, *self.fitted}]
            at = self._minimised(at)
        self.kept = {name: reason for name, reason in self.kept.items() if name not in self.fitted}
        return _with(at, self.fitted, [_rounded(getattr(at, name)) for name in self.fitted])

    def _identified(self, at: ArchCalibration) -> list[str]:
        """The constants that the rows can tell, by priority; fills `kept` with why not for the others.

        A constant is told when a row's noise moves it by less than _WORST_ERROR of itself, whatever the constants
        before it are.
        """
        self.kept = {}
        known: list[str] = []
        candidates: list[str] = []
        for name in self.names:
            reason = _OBVIOUS[name](self.points) if name in _OBVIOUS else ""
            if reason:
                self.kept[name] = reason
            else:
                candidates.append(name)
        basis = np.empty((0, len(self.points)))  # orthonormal: what the known constants do to the residuals
        for name, column in zip(candidates, self._columns(at, candidates), strict=True):
            left = column - (basis @ column) @ basis
            length = np.linalg.norm(left)
            if np.linalg.norm(column) < _TINY:
                self.kept[name] = "no row depends on it"
            elif len(known) >= len(self.points) // 2:
                self.kept[name] = f"{len(self.points)} rows are too few for another constant"
            elif length * _WORST_ERROR < NOISE and name not in self.priors:
                self.kept[name] = "the rows barely depend on it, or cannot separate it from the constants before it"
            else:
                known.append(name)
                basis = np.vstack([basis, left / length])
        return known

    def alike(self) -> list[tuple[str, str, float]]:
        """Pairs of fitted constants whose effects on the rows are as good as proportional, and how nearly (-1 to 1)."""
        columns = self._columns(self.constants, self.fitted)
        lengths = np.linalg.norm(columns, axis=1)
        found = []
        for i, first in enumerate(self.fitted):
            for j in range(i):
                product = lengths[i] * lengths[j]
                cosine = float(columns[i] @ columns[j] / product) if product else 0.0
                if abs(cosine) > _ALIKE:
                    found.append((self.fitted[j], first, cosine))
        return found

    def _columns(self, at: ArchCalibration, names: list[str]) -> NDArray[np.float64]:
        """The change of every residual per size of each constant: one row a constant."""
        from scipy.optimize import approx_fprime

        if not names:
            return np.empty((0, len(self.points)))
        scaled = _Scaled(self.points, at, names)
        steps = np.where(scaled.start + _STEP > scaled.upper, -_STEP, _STEP)
        return approx_fprime(scaled.start, scaled.residuals, steps).T

    def _minimised(self, at: ArchCalibration) -> ArchCalibration:
        from scipy.optimize import least_squares

        scaled = _Scaled(self.points, at, self.fitted, self.priors)
        # dogbox, unlike trf, ends on a bound where the best value is there.
        found = least_squares(
            scaled.residuals,
            np.clip(scaled.start, scaled.lower, scaled.upper),
            bounds=(scaled.lower, scaled.upper),
            method="dogbox",
            loss="soft_l1",
            f_scale=NOISE,
            diff_step=_STEP,
        )
        return scaled.constants(found.x)


class _Scaled:
    """Some constants, each in units of its size, as a vector; a size is the constant now, or where it is near zero a
    tenth of its usual size."""

    def __init__(
        self,
        points: Sequence[Point],
        at: ArchCalibration,
        names: Sequence[str],
        priors: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        known = priors or {}
        self._priors = [(names.index(name), *known[name]) for name in names if name in known]
        self._points, self._at, self._names = points, at, names
        own = np.array([getattr(at, name) for name in names])
        self._sizes = np.maximum(own, [FREE[name].usual / 10 for name in names])
        self.start = own / self._sizes
        self.lower = np.array([FREE[name].lower for name in names]) / self._sizes
        self.upper = np.array([FREE[name].upper for name in names]) / self._sizes

    def constants(self, values: NDArray[np.float64]) -> ArchCalibration:
        """All constants, those of the vector replaced."""
        return _with(self._at, self._names, (values * self._sizes).tolist())

    def residuals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """One residual a row, and one a prior, in the unit of a row's noise."""
        constants = self.constants(values)
        known = [NOISE * (values[i] * self._sizes[i] - value) / spread for i, value, spread in self._priors]
        return np.array([*(point.residual(constants) for point in self._points), *known])


def _with(at: ArchCalibration, names: Sequence[str], values: Sequence[float]) -> ArchCalibration:
    changed: dict[str, Any] = dict(zip(names, values, strict=True))
    return dataclasses.replace(at, **changed)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
