# SPDX-License-Identifier: Apache-2.0
"""Fits the costs of single ops to measured op rows, by kind and architecture, never by row.

The constants of a kind are fitted together to its rows without a flag: soft-L1 loss over log(predicted / measured), a
weak prior at their values before (one size off costs as much as one row that is PRIOR off), and bounds. A constant
that too few rows depend on stays as it was; constants that the rows cannot tell apart are named.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import ConfigError
from ..hardware.enums import Arch
from ..perf.calibration import ArchCalibration, Calibration, Collective
from ..perf.op_row_times import op_row_us
from ..perf.op_rows import OpRow
from ..perf.timing import ChipFigures
from .op_errors import OpComparison, arch_rows, compare_ops, op_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_ROWS = 3  # of a kind that a constant changes the prediction of
NOISE = 0.05  # where the loss turns from quadratic to linear; profiles repeat within a few percent
PRIOR = 0.02
ALIKE = 0.98  # cosine of two constants' effects from which the rows are said not to tell them apart
_STEP = 1e-3

# Class of rows -> constants fitted to it: by name, with the size that a step and the prior are counted in, and the
# largest value. A name with a dot is a part of a collective.
_Sizes = Mapping[str, tuple[float, float]]
FREE: dict[str, _Sizes] = {
    "decode matmul": {
        "matmul_us": (10.0, 40.0),
        "reader_cycles_per_tile": (5.0, 30.0),
        "block_cycles": (20.0, 100.0),
        "matmul_interleaved_us": (10.0, 40.0),
        "page_cycles": (20.0, 100.0),
        "block_us": (1.0, 10.0),
    },
    "decode attention": {
        "sdpa_decode_us": (10.0, 50.0),
        "sdpa_decode_query_us": (0.03, 1.0),
        "sdpa_decode_efficiency": (0.5, 1.0),
        "sdpa_decode_us_per_64k": (100.0, 1000.0),
    },
    "norm": {"norm_us": (10.0, 50.0), "norm_tile_us": (0.5, 5.0), "elementwise_efficiency": (0.5, 1.0)},
    "prefill matmul": {
        "prefill_matmul_us": (10.0, 50.0),
        "prefill_tile_cycles": (10.0, 60.0),
        "matmul_efficiency": (0.5, 1.0),
        "matmul_half_rows": (100.0, 1000.0),
    },
    "prefill attention": {"sdpa_prefill_us": (10.0, 50.0), "softmax_elements_per_cycle": (1.5, 20.0)},
    "heads, RoPE, cache": {
        "create_heads_us": (5.0, 50.0),
        "create_heads_head_us": (0.3, 3.0),
        "concat_heads_us": (2.0, 20.0),
        "concat_heads_user_us": (0.1, 2.0),
        "rope_us": (5.0, 50.0),
        "cache_update_us": (5.0, 50.0),
        "cache_update_head_us": (1.0, 10.0),
    },
    "product and addition": {
        "gated_us": (5.0, 50.0),
        "gated_tile_us": (0.05, 1.0),
        "add_us": (2.0, 20.0),
        "add_tile_us": (0.01, 1.0),
    },
    "move and gap": {"move_us": (2.0, 20.0), "gap_us": (0.5, 5.0)},
    "sampling": {"topk_us": (100.0, 1000.0), "topk_element_us": (0.2, 5.0), "sampler_us": (30.0, 300.0)},
    "collective": {
        f"{name}.{part}": (size, most)
        for name in ("all_gather_ring", "reduce_scatter_ring", "all_reduce_ring")
        for part, size, most in (("base_us", 5.0, 50.0), ("gbs", 30.0, 400.0))
    },
}


@dataclass(frozen=True)
class OpFit:
    """What a fit found: values by architecture and constant, rounded to three digits; kept: those that stayed, with the
    reason; alike: pairs that the rows cannot tell apart; rows: how many each class gave."""

    values: dict[Arch, dict[str, float]] = field(default_factory=dict)
    kept: dict[Arch, dict[str, str]] = field(default_factory=dict)
    alike: dict[Arch, list[tuple[str, str]]] = field(default_factory=dict)
    rows: dict[tuple[Arch, str], int] = field(default_factory=dict)
    constants: dict[Arch, ArchCalibration] = field(default_factory=dict)


def fit_ops(rows: Iterable[OpRow], calibration: Calibration, classes: Sequence[str] = tuple(FREE)) -> OpFit:
    """Fits the constants of `classes` in every architecture. Raises ConfigError where nothing can be fitted."""
    rows, found = list(rows), OpFit()
    for arch, before in calibration.archs.items():
        if before.ops is None:
            raise ConfigError(f"calibration {calibration.name} has no costs of single ops to fit.")
        at = before
        for group in classes:
            own = [(row, chip) for row, chip in arch_rows(rows, arch) if op_class(row) == group]
            fit = _ClassFit(at, own, FREE[group])
            at = fit.run()
            found.values.setdefault(arch, {}).update({name: _get(at, name) for name in fit.fitted})
            found.kept.setdefault(arch, {}).update(fit.kept)
            found.alike.setdefault(arch, []).extend(fit.alike)
            found.rows[arch, group] = len(fit.points)
        found.constants[arch] = at
    if not any(found.values.values()):
        raise ConfigError(f"these op rows are too few to fit any constant; {LEAST_ROWS} of a kind are needed.")
    return found


class _ClassFit:
    """One class of rows on one architecture."""

    def __init__(self, at: ArchCalibration, rows: Sequence[tuple[OpRow, ChipFigures]], sizes: _Sizes) -> None:
        self.at, self.sizes = at, sizes
        self.points = [(row, chip) for row, chip in rows if (op_row_us(row, chip, at) or 0) > 0]
        self.fitted: list[str] = []
        self.kept: dict[str, str] = {}
        self.alike: list[tuple[str, str]] = []

    def run(self) -> ArchCalibration:
        """The constants after the fit."""
        from scipy.optimize import least_squares

        effects = {name: self._effect(name) for name in self.sizes}
        for name, effect in effects.items():
            touched = int((abs(effect) > 1e-6).sum()) if effect is not None else 0
            if touched < LEAST_ROWS:
                self.kept[name] = f"rows that depend on it: {touched}; {LEAST_ROWS} are needed"
            else:
                self.fitted.append(name)
        if not self.fitted:
            return self.at
        sizes = np.array([self.sizes[name][0] for name in self.fitted])
        start = np.array([_get(self.at, name) for name in self.fitted]) / sizes
        most = np.array([self.sizes[name][1] for name in self.fitted]) / sizes

        def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
            constants = _with(self.at, self.fitted, (values * sizes).tolist())
            return np.concatenate([self._residuals(constants), PRIOR * (values - start)])

        least = np.array([_LEAST_SHARE if _is_rate(name) else 0.0 for name in self.fitted]) / sizes
        begin = np.clip(start, least, most)
        result = least_squares(
            residuals, begin, bounds=(least, most), method="trf", loss="soft_l1", f_scale=NOISE, diff_step=_STEP
        )
        after = _with(self.at, self.fitted, [_rounded(v) for v in result.x * sizes])
        self._find_alike(after)
        return after

    def _residuals(self, constants: ArchCalibration) -> NDArray[np.float64]:
        return np.array([math.log((op_row_us(row, chip, constants) or row.us) / row.us) for row, chip in self.points])

    def _effect(self, name: str, at: ArchCalibration | None = None) -> NDArray[np.float64] | None:
        """The change of every residual for one size of a constant; None where the architecture has no such constant."""
        at = at or self.at
        if not self.points or not _has(at, name):
            return None
        step = _STEP * self.sizes[name][0]
        value = _get(at, name)
        moved = value - step if value + step > self.sizes[name][1] else value + step
        return (
            (self._residuals(_with(at, [name], [moved])) - self._residuals(at)) / (moved - value) * self.sizes[name][0]
        )

    def _find_alike(self, at: ArchCalibration) -> None:
        effects = {name: self._effect(name, at) for name in self.fitted}
        for index, first in enumerate(self.fitted):
            for second in self.fitted[index + 1 :]:
                one, other = effects[first], effects[second]
                if one is None or other is None:
                    continue
                lengths = np.linalg.norm(one) * np.linalg.norm(other)
                if lengths and abs(one @ other) / lengths > ALIKE:
                    self.alike.append((first, second))


_NOTHING = 1e-6  # what a bound of zero leaves
_LEAST_SHARE = 0.05  # of shares and rates, which cannot be zero


def _is_rate(name: str) -> bool:
    return name.endswith(("efficiency", ".gbs", "elements_per_cycle"))


def _has(at: ArchCalibration, name: str) -> bool:
    return "." not in name or getattr(at, name.split(".")[0]) is not None


def _get(at: ArchCalibration, name: str) -> float:
    first, _, part = name.partition(".")
    if part:
        return float(getattr(getattr(at, first), part))
    return float(getattr(at.ops if hasattr(at.ops, name) else at, name))


def _with(at: ArchCalibration, names: Sequence[str], values: Sequence[float]) -> ArchCalibration:
    changed: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        first, _, part = name.partition(".")
        if part:
            own: Collective = changed.get(first) or getattr(at, first)
            parts = {"base_us": own.base_us, "hop_us": own.hop_us, "gbs": own.gbs, part: value}
            changed[first] = Collective(**parts)
        else:
            changed[name] = value
    return at.replace(**changed)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}") if value > _NOTHING else 0.0


def left_out(rows: Iterable[OpRow], calibration: Calibration, path: str = "") -> list[OpComparison]:
    """Every row predicted by constants that were fitted without the rows of its model, `path` naming the rows' file.

    Rows that name no model are left out together.
    """
    rows, found = list(rows), []
    for model in dict.fromkeys(row.model for row in rows):
        others = [row for row in rows if row.model != model]
        fit = fit_ops(others, calibration)
        own = dataclasses.replace(calibration, archs=fit.constants)
        found += compare_ops([row for row in rows if row.model == model], own, path)
    return found
