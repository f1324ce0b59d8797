# SPDX-License-Identifier: Apache-2.0
"""The compiled inner loop of calibrated rounding: rows of a matrix one after another, each in shared exponents.

All columns of a row meet the same input, so that the inverse Hessian weighs their errors alike: of the exponents tried
for a group, the one with the least sum of squared errors is the one with the least weighted error.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..numerics.compiled import helper, kernel, run_split
from ..numerics.formats import BLOCK
from ..numerics.instructions import bits_of, float_of

# The exponent of a group's largest magnitude, one less (the largest values are cut), one more (they are rounded up).
_STEPS = (0, -1, 1)
# Below, a value of the format would be a subnormal float32, which packing makes 0; 2**-118 is 0 to any model.
_SMALLEST, _LARGEST = -118, 126


def round_rows(
    wanted: Tensor, lower: Tensor, ahead: Tensor, bounds: Tensor, *, magnitude_bits: int, high_only: bool
) -> Tensor:
    """Rounds the rows of a panel from the last to the first; each takes over the errors of those before it.

    Args:
        wanted: float32 [rows, columns], columns group by group.
        lower: float32 [rows, rows], the panel's part of the lower Cholesky factor of the Hessian.
        ahead: float32 [rows, columns]: the sum over rows already rounded of factor times error, not yet divided by the
            diagonal.
        bounds: int64 [groups + 1], the columns where groups begin, and where the last ends; 16 columns at most each.
        magnitude_bits: 7 for bfp8, 3 for bfp4.
        high_only: keep five significant bits.

    Returns:
        float32 [rows, columns], values of the format. Deterministic, whatever the number of threads.
    """
    rounded = torch.empty_like(wanted)
    w, low, far, out = (x.contiguous().numpy() for x in (wanted, lower, ahead, rounded))
    edges, steps = bounds.numpy(), np.array(_STEPS, np.int64)
    run_split(
        lambda lo, hi: _round_groups(w, low, far, edges, out, steps, magnitude_bits, high_only, lo, hi),
        len(edges) - 1,
        w.size,
    )
    return rounded


@helper
def _power(exponent):  # type: ignore[no-untyped-def]
    """2 to the power of a whole number from -126 to 127, float32."""
    return float_of(np.uint32((exponent + 127) << 23))


@helper
def _on_grid(value, scale, top, high_only):  # type: ignore[no-untyped-def]
    """The magnitude in units of the last place, 0..top, of a value that is `scale` times as many units."""
    q = np.rint(abs(value) * scale)
    if high_only:
        if q >= np.float32(32):
            unit = np.float32(4) if q >= np.float32(64) else np.float32(2)
            q = np.rint(abs(value) * scale / unit) * unit
        return min(q, np.float32(124))
    return min(q, top)


@kernel
def _round_groups(wanted, lower, ahead, bounds, out, steps, width, high_only, lo, hi):  # type: ignore[no-untyped-def]
    rows = wanted.shape[0]
    errors, target = np.empty((rows, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    top = np.float32((1 << width) - 1)
    for g in range(lo, hi):
        first, count = bounds[g], bounds[g + 1] - bounds[g]
        for r in range(rows - 1, -1, -1):
            for k in range(count):
                target[k] = ahead[r, first + k]
            for s in range(r + 1, rows):
                factor = lower[s, r]
                for k in range(count):
                    target[k] += factor * errors[s, k]
            largest = np.float32(0)
            for k in range(count):
                target[k] = wanted[r, first + k] + target[k] / lower[r, r]
                largest = max(largest, abs(target[k]))
            own = np.int64(bits_of(largest) >> 23) - 127
            best, chosen = np.float32(np.inf), np.int64(0)
            for i in range(steps.size):
                e = min(max(own + steps[i], _SMALLEST), _LARGEST)
                scale, unit = _power(width - 1 - e), _power(e + 1 - width)
                total = np.float32(0)
                for k in range(count):
                    miss = abs(target[k]) - _on_grid(target[k], scale, top, high_only) * unit
                    total += miss * miss
                if total < best:
                    best, chosen = total, e
            scale, unit = _power(width - 1 - chosen), _power(chosen + 1 - width)
            for k in range(count):
                q = _on_grid(target[k], scale, top, high_only) * unit
                # 0 has no sign.
                value = -q if target[k] < np.float32(0) and q > np.float32(0) else q
                out[r, first + k] = value
                errors[r, k] = wanted[r, first + k] - value
