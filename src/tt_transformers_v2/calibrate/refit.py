# SPDX-License-Identifier: Apache-2.0
"""Fits the few free constants of the performance model to measured rows, and leaves alone what those cannot tell.

Decode constants are fitted to tokens/s/user, then prefill constants to TTFT, for each architecture by itself. The
residual is log(predicted / measured); a soft-L1 loss keeps single odd rows from pulling. What is known of a constant
besides the rows (`prior` in conf/provenance) counts as one more row, so that constants that do the same to every row
are not traded for each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import ConfigError, did_you_mean
from ..config.resolve import Experiment
from ..hardware.enums import Arch
from ..hardware.op_table import DECODE, PHASES
from ..perf.calibration import ArchCalibration, Calibration
from ..perf.measurements import MeasuredRow
from ..perf.prediction import confidence_rules
from ..perf.roofline import decode_us, ttft_ms
from .free_constants import DEFAULT_CONSTANTS, FREE
from .measured_rows import PredictedRow, RowPredictor, resolve_rows
from .validation import fitted_models

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOISE = 0.05  # repeatability of a measurement, and where the loss turns from quadratic to linear
LEAST_ROWS = 3  # by architecture and phase
_WORST_ERROR = 0.5  # a constant counts as identified when its standard error is at most this share of it
_ABSENT, _EXACT = "the calibration does not have it", "its prior is exact"
_ALIKE = 0.98  # cosine of two constants' effects on the residuals from which the rows cannot tell them apart
_STEP = 1e-4  # of numerical derivatives, in sizes of a constant
_TINY = 1e-6  # change of the residuals below which no row depends on a constant


@dataclass(frozen=True)
class PhaseErrors:
    """Mean absolute error in percent of an architecture's rows, with the constants before the fit and after it."""

    arch: Arch
    phase: str
    split: str
    rows: int
    before: float
    after: float


@dataclass(frozen=True)
class Refit:
    """What a fit found.

    values: fitted constants by architecture, in their own units, rounded to three digits. kept: those that stayed as
    they were, with the reason. rows, sources: how many rows gave the constants and where those came from, by phase.
    left_out: rows without a flag that were not used because they are of other releases, by phase. alike: pairs of
    fitted constants that the rows cannot tell apart, with the correlation that the rows alone give them.
    """

    models: tuple[str, ...]
    values: dict[Arch, dict[str, float]] = field(default_factory=dict)
    kept: dict[Arch, dict[str, str]] = field(default_factory=dict)
    errors: list[PhaseErrors] = field(default_factory=list)
    rows: dict[tuple[Arch, str], int] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    alike: dict[Arch, list[tuple[str, str, float]]] = field(default_factory=dict)


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


def refit(
    rows: Iterable[MeasuredRow],
    calibration_data: Mapping[str, Any],
    constants: Sequence[str] | None = None,
    fit_models: Sequence[str] | None = None,
) -> Refit:
    """Fits `constants` (default DEFAULT_CONSTANTS) of a calibration to the measured rows whose flag lets them count.

    `calibration_data` is plain data as in conf/calibration; `prior: [value, spread]` of a constant (a share of the
    value) is what is known of it besides the rows, and with a spread of 0 all there is to know. `fit_models`: models
    whose rows are fitted, the others check; by default those of conf/measurements/split.yaml that the rows have, or
    all where they have none of these.
    Rows of the releases that the calibration describes are preferred: others are used only where there are no such
    rows. Raises ConfigError for unknown constants and models, and when nothing can be fitted.
    """
    calibration = Calibration.from_dict(calibration_data)
    points, left_out = measured_points(rows, calibration)
    models = _models(points, fit_models, confidence_rules(calibration).points)
    found = refit_points(points, calibration_data, constants, models)
    found.left_out.update(left_out)
    if not any(found.values.values()):
        raise ConfigError(_nothing_fitted(found))
    return found


def refit_points(
    points: Sequence[Point],
    calibration_data: Mapping[str, Any],
    constants: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
) -> Refit:
    """As `refit`, of points made already; `models` None fits all. What cannot be fitted is kept, even if it is all."""
    calibration, wanted = Calibration.from_dict(calibration_data), _wanted(constants)
    found = Refit(tuple(dict.fromkeys(p.row.model for p in points) if models is None else models))
    models = found.models
    chosen = {name.casefold() for name in models}
    for arch, own in calibration.archs.items():
        own_points = [p for p in points if p.arch is arch]
        _refit_arch(found, arch, own, own_points, chosen, wanted, priors(calibration_data[arch.value]))
    for phase in PHASES:
        fitted = [a for a, values in found.values.items() if any(FREE[name].phase == phase for name in values)]
        used = (p.row.source for p in points if p.phase == phase and _is_fitted(p, chosen) and p.arch in fitted)
        found.sources[phase] = tuple(dict.fromkeys(used))
    return found


def priors(data: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """What is known of the constants of one architecture besides the rows: value and standard deviation, by name."""
    known = {name: entry["prior"] for name, entry in data.items() if name in FREE and "prior" in entry}
    for name, prior in known.items():
        numbers = isinstance(prior, (list, tuple)) and all(isinstance(part, (int, float)) for part in prior)
        if not numbers or len(prior) != 2 or min(prior) < 0:
            raise ConfigError(f"prior of {name} must be [value, spread as a share of it], not {prior!r}.")
    return {name: (float(value), float(value) * float(spread)) for name, (value, spread) in known.items()}


def _wanted(constants: Sequence[str] | None) -> list[str]:
    for name in constants or ():
        if name not in FREE:
            raise ConfigError(f"{name!r} is not a constant that can be fitted.", did_you_mean(name, FREE))
    return [name for name in FREE if name in (DEFAULT_CONSTANTS if constants is None else constants)]


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


def _models(points: Sequence[Point], asked: Sequence[str] | None, file: str) -> tuple[str, ...]:
    present = {point.row.model.casefold(): point.row.model for point in points}
    if asked is None:
        found = [present[name.casefold()] for name in fitted_models(file) or () if name.casefold() in present]
        return tuple(found or present.values())
    for name in asked:
        if name.casefold() not in present:
            raise ConfigError(f"there are no rows of {name!r} to fit.", did_you_mean(name, present.values()))
    return tuple(present[name.casefold()] for name in asked)


def _is_fitted(point: Point, models: set[str]) -> bool:
    return point.row.model.casefold() in models


def _refit_arch(
    found: Refit,
    arch: Arch,
    before: ArchCalibration,
    points: list[Point],
    models: set[str],
    wanted: list[str],
    known: Mapping[str, tuple[float, float]],
) -> None:
    """Adds what the points of one architecture give to `found`; decode first, because TTFT holds the host's part."""
    values, kept = found.values.setdefault(arch, {}), found.kept.setdefault(arch, {})
    after = before
    for phase in PHASES:
        names = [name for name in wanted if FREE[name].phase == phase]
        own = [point for point in points if point.phase == phase and _is_fitted(point, models)]
        kept |= {name: _ABSENT for name in names if getattr(after, name) is None}
        kept |= {name: _EXACT for name in names if name in known and not known[name][1]}
        has = [name for name in names if name not in kept]
        fit = _Fit(after, own, has, known)
        after = fit.run()
        values |= {name: getattr(after, name) for name in fit.fitted}
        kept |= fit.kept
        found.alike.setdefault(arch, []).extend(fit.alike())
        found.rows[arch, phase] = len(own)
    for phase in PHASES:
        for split in ("fitted", "check"):
            same = [p for p in points if p.phase == phase and _is_fitted(p, models) == (split == "fitted")]
            if same:
                found.errors.append(PhaseErrors(arch, phase, split, len(same), _mape(same, before), _mape(same, after)))


def _mape(points: Sequence[Point], constants: ArchCalibration) -> float:
    return mean(abs(math.exp(point.residual(constants)) - 1) for point in points) * 100


@dataclass
class _Fit:
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


def _telling(kept: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, why) for name, why in kept.items() if why not in (_ABSENT, _EXACT)]


def _nothing_fitted(found: Refit) -> str:
    reasons = (f"{arch}: {name}: {why}" for arch, kept in found.kept.items() for name, why in _telling(kept)[:2])
    return "these rows are too few or too similar to fit any constant (" + "; ".join(reasons) + ")."
