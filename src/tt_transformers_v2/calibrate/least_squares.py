# SPDX-License-Identifier: Apache-2.0
"""A small robust least-squares solver with bounds, for fits of a few parameters to some dozens of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Vector = list[float]
Matrix = list[Vector]  # a list of columns
Residuals = Callable[[Vector], Vector]

_STEP = 1e-4  # relative step of numerical derivatives
_MOST_STEPS = 60
_CONVERGED = 1e-7  # relative change of the cost


def soft_l1(residuals: Sequence[float], scale: float) -> float:
    """Sum of 2 (sqrt(1 + (r / scale)^2) - 1): quadratic below `scale`, linear above, so that outliers pull less."""
    return sum(2 * (math.sqrt(1 + (r / scale) ** 2) - 1) for r in residuals)


def minimise(
    residuals: Residuals, start: Vector, lower: Vector, upper: Vector, *, scale: float, sizes: Vector
) -> Vector:
    """The parameters within bounds that minimise the soft-L1 sum of `residuals`.

    Levenberg and Marquardt's damping on weighted Gauss-Newton steps; a step beyond a bound is cut to it. Derivatives
    are numerical, with steps relative to `sizes` (the typical magnitude of each parameter). Deterministic.
    """
    at = [min(max(x, low), high) for x, low, high in zip(start, lower, upper, strict=True)]
    own = residuals(at)
    cost, damping = soft_l1(own, scale), 1e-3
    for _ in range(_MOST_STEPS):
        columns = derivatives(residuals, at, own, upper, sizes)
        weights = [1 / math.sqrt(1 + (r / scale) ** 2) for r in own]
        gradient = [_dot(column, own, weights) for column in columns]
        free = [
            not (x <= low and slope > 0) and not (x >= high and slope < 0)
            for x, low, high, slope in zip(at, lower, upper, gradient, strict=True)
        ]
        before = cost
        while damping < 1e10:
            step = _damped_step(columns, gradient, weights, free, damping)
            tried = [
                min(max(x + s * size, low), high)
                for x, s, size, low, high in zip(at, step, sizes, lower, upper, strict=True)
            ]
            there = residuals(tried)
            cost = soft_l1(there, scale)
            if cost < before:
                at, own, damping = tried, there, max(damping / 10, 1e-9)
                break
            damping *= 10
        else:
            return at
        if before - cost <= _CONVERGED * before:
            return at
    return at


def derivatives(residuals: Residuals, at: Vector, own: Vector, upper: Vector, sizes: Vector) -> Matrix:
    """The change of every residual per `sizes` of each parameter: one column a parameter, by forward differences
    (backward at an upper bound)."""
    columns = []
    for index, size in enumerate(sizes):
        step = _STEP if at[index] + _STEP * size <= upper[index] else -_STEP
        moved = residuals([x + step * size * (i == index) for i, x in enumerate(at)])
        columns.append([(there - here) / step for there, here in zip(moved, own, strict=True)])
    return columns


def _damped_step(columns: Matrix, gradient: Vector, weights: Vector, free: list[bool], damping: float) -> Vector:
    """Solves (J'WJ + damping diag) step = -gradient over the free parameters."""
    chosen = [index for index, is_free in enumerate(free) if is_free]
    normal = [[_dot(columns[i], columns[j], weights) for j in chosen] for i in chosen]
    for i, row in enumerate(normal):
        row[i] += damping * row[i] + 1e-12
    solved = solve(normal, [-gradient[index] for index in chosen])
    step = [0.0] * len(columns)
    for index, value in zip(chosen, solved, strict=True):
        step[index] = value
    return step


def solve(matrix: list[Vector], right: Vector) -> Vector:
    """Gaussian elimination with partial pivoting; `matrix` is a list of rows and must not be singular."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (rows[i][size] - sum(rows[i][j] * found[j] for j in range(i + 1, size))) / rows[i][i]
    return found


def remainder(column: Vector, basis: Matrix) -> Vector:
    """What is left of `column` outside the span of the orthonormal `basis`."""
    left = list(column)
    for unit in basis:
        along = _dot(left, unit)
        left = [a - along * b for a, b in zip(left, unit, strict=True)]
    return left


def length(column: Vector) -> float:
    """Euclidean length."""
    return math.sqrt(_dot(column, column))


def _dot(one: Vector, other: Vector, weights: Vector | None = None) -> float:
    if weights is None:
        return sum(a * b for a, b in zip(one, other, strict=True))
    return sum(a * b * w for a, b, w in zip(one, other, weights, strict=True))
