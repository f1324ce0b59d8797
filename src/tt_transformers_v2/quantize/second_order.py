# SPDX-License-Identifier: Apache-2.0
"""Rounding by second order (GPTQ, Frantar and others, arXiv:2210.17323): errors are fed forward to rows yet to come.

With inputs X [tokens, in], what rounding W [in, out] to Q costs is the squared norm of X (W - Q), or the trace of
(W - Q)^T H (W - Q) with H = X^T X. Of a lower factor L with H = L L^T over the inputs in reverse order, row r of
L^T (W - Q) holds the errors of row r and of those rounded before it, so that each row in turn is rounded at
W_r + sum_s L_sr E_s / L_rr. That is GPTQ's order of steps without the inverse of H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .grid import Grid, Groups
from .grid_rounding import round_rows

# Rows rounded between two products with all of those before.
PANEL = 128
# How often a Hessian that is not positive definite is damped ten times as much.
_TRIES = 4


class SingularHessian(ValueError):
    """A Hessian that has no Cholesky factor however it is damped here."""


@dataclass(frozen=True)
class Factor:
    """The lower Cholesky factor [in, in] of a damped Hessian over the inputs in `order`, which is rounded from its end.

    damping: the share of the mean diagonal that was added to the diagonal.
    """

    lower: Tensor
    order: Tensor
    damping: float


def hessian(x: Tensor, into: Tensor | None = None) -> Tensor:
    """2 X^T X of float32 inputs x [..., in], added to `into` where there is one: float32 [in, in]."""
    rows = x.reshape(-1, x.shape[-1])
    if into is None:
        into = torch.zeros(rows.shape[-1], rows.shape[-1])
    return into.addmm_(rows.T, rows, alpha=2.0)


def damping_for(damping: float, tokens: int, inputs: int) -> float:
    """`damping`, or as many times more as there are fewer tokens than inputs: the rest of the Hessian is unseen."""
    return damping * max(1.0, inputs / tokens)


def factorised(h: Tensor, damping: float, *, act_order: bool) -> Factor:
    """The factor of a Hessian float32 [in, in], which is used up; `damping` as in Factor.

    With `act_order`, inputs are rounded in the order of their diagonals, largest first. Raises SingularHessian, also
    for a Hessian that is not finite.
    """
    diagonal = h.diagonal()
    if not torch.isfinite(diagonal).all():
        raise SingularHessian("it is not finite")
    mean = float(diagonal.mean(dtype=torch.float64))
    if mean == 0:  # nothing was seen: every row is rounded on its own
        return Factor(torch.eye(len(h)), torch.arange(len(h)), damping)
    order = torch.argsort(diagonal, stable=True) if act_order else torch.arange(len(h) - 1, -1, -1)
    h = h[order[:, None], order] if act_order else h.flip(0, 1)
    for attempt in range(_TRIES):
        share = damping * 10.0**attempt
        h.diagonal().add_((share if attempt == 0 else share - share / 10) * mean)
        for wide in (h, h.double) if len(h) <= 8192 else (h,):
            lower, failed = torch.linalg.cholesky_ex(wide() if callable(wide) else wide)
            lower = lower.float()
            if not int(failed) and bool(torch.isfinite(lower.diagonal()).all()):
                return Factor(lower, order, share)
    raise SingularHessian(f"it is not positive definite even when damped by {share:g} of its mean diagonal")


def calibrated(weight: Tensor, factor: Factor, grid: Grid, groups: Groups) -> Tensor:
    """`weight` [in, out] float32, rounded to `grid`: a new tensor of which packing keeps every bit."""
    wanted = weight[factor.order][:, groups.order]
    errors, rounded = torch.empty_like(wanted), torch.empty_like(wanted)
    for stop in range(len(wanted), 0, -PANEL):
        panel, after = slice(max(stop - PANEL, 0), stop), slice(stop, None)
        own = wanted[panel]
        ahead = factor.lower[after, panel].T @ errors[after] if stop < len(wanted) else torch.zeros_like(own)
        rounded[panel] = round_rows(
            own,
            factor.lower[panel, panel],
            ahead,
            groups.bounds,
            magnitude_bits=grid.magnitude_bits,
            high_only=grid.high_only,
        )
        torch.sub(own, rounded[panel], out=errors[panel])
    result = torch.empty_like(rounded)
    result[factor.order[:, None], groups.order] = rounded
    return result
