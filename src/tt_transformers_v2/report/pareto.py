# SPDX-License-Identifier: Apache-2.0
"""The Pareto front of two figures. The page computes it again as axes and filters change (state.js); tests compare."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float | None, float | None]], better: tuple[str, str]) -> list[int]:
    """Indexes, ascending, of the points that no other point beats in one figure without losing in the other.

    `better` is "high" or "low" for each of the two. Points that lack a figure are left out; equal points stay together.
    """
    signs = [-1 if way == "high" else 1 for way in better]
    found: list[int] = []
    best: tuple[float, float] | None = None
    costs = sorted(
        (signs[0] * x, signs[1] * y, index) for index, (x, y) in enumerate(points) if x is not None and y is not None
    )
    for x, y, index in costs:
        if best is None or y < best[1] or (x, y) == best:
            best = (x, y)
            found.append(index)
    return sorted(found)
