# SPDX-License-Identifier: Apache-2.0
"""Fits the few free constants of the performance model to measured rows, and leaves alone what those cannot tell.

Decode constants are fitted to tokens/s/user, then prefill constants to TTFT, for each architecture by itself. The
residual is log(predicted / measured); a soft-L1 loss keeps single odd rows from pulling. What is known of a constant
besides the rows (`prior` in conf/provenance) counts as one more row, so that constants that do the same to every row
are not traded for each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import Arch
from ..hardware.op_table import PHASES
from ..perf.calibration import ArchCalibration, Calibration
from ..perf.measurements import MeasuredRow
from ..perf.prediction import confidence_rules
from .constant_fit import ConstantFit
from .fit_points import Point, measured_points
from .free_constants import DEFAULT_CONSTANTS, FREE
from .validation import fitted_models

_ABSENT, _EXACT = "the calibration does not have it", "its prior is exact"


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
        fit = ConstantFit(after, own, has, known)
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


def _telling(kept: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, why) for name, why in kept.items() if why not in (_ABSENT, _EXACT)]


def _nothing_fitted(found: Refit) -> str:
    reasons = (f"{arch}: {name}: {why}" for arch, kept in found.kept.items() for name, why in _telling(kept)[:2])
    return "these rows are too few or too similar to fit any constant (" + "; ".join(reasons) + ")."
