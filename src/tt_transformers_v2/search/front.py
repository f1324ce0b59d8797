# SPDX-License-Identifier: Apache-2.0
"""The trade-off between time and quality when both add up over layers: a multiple-choice knapsack's convex front.

Every place takes one option; an option saves time and costs KL. For every price of KL the best choice at each place is
independent of the others, so walking the price from high to low visits the assignments that no mixture of others
beats. Between two neighbours only one place differs, so with hundreds of places the front has no gaps worth filling.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .space import Option, Place


@dataclass(frozen=True)
class Effect:
    """What an option does at its place: microseconds saved, nats of KL added (below 0 only where none are saved)."""

    option: Option
    saves_us: float
    kl: float


@dataclass(frozen=True)
class Step:
    """One step along the front: `place` changes to `option`; `saves_us` and `kl` are totals over all steps so far."""

    place: Place
    option: Option
    saves_us: float
    kl: float


def walk(effects: Mapping[Place, Sequence[Effect]]) -> list[Step]:
    """The front from the most accurate assignment to the fastest, cheapest savings first.

    `effects` has what was measured of each place, without its base option.
    """
    moves = [move for place, found in effects.items() for move in _hull(place, found)]
    moves.sort(key=lambda move: (move[0], move[1]))
    steps, saved, kl = [], 0.0, 0.0
    for _, place, option, more_us, more_kl in moves:
        saved, kl = saved + more_us, kl + more_kl
        steps.append(Step(place, option, saved, kl))
    return steps


def _hull(place: Place, found: Sequence[Effect]) -> Iterator[tuple[float, Place, Option, float, float]]:
    """The moves that a place makes as KL gets cheaper: price (rising), place, option, further us, further KL."""
    saved, kl = 0.0, 0.0
    free = min((effect for effect in found if effect.saves_us == 0), key=lambda effect: effect.kl, default=None)
    if free is not None and free.kl < 0:  # better for nothing: before all others
        yield (-math.inf, place, free.option, 0.0, free.kl)
        kl = free.kl
    left = [effect for effect in found if effect.saves_us > 0]
    while left:
        best = min(left, key=lambda effect: ((effect.kl - kl) / (effect.saves_us - saved), -effect.saves_us))
        yield ((best.kl - kl) / (best.saves_us - saved), place, best.option, best.saves_us - saved, best.kl - kl)
        saved, kl = best.saves_us, best.kl
        left = [effect for effect in left if effect.saves_us > saved]


def assignment_after(base: Mapping[Place, Option], steps: Sequence[Step], count: int) -> dict[Place, Option]:
    """`base` with the first `count` steps taken."""
    chosen = dict(base)
    for step in steps[:count]:
        chosen[step.place] = step.option
    return chosen


def spread(steps: Sequence[Step], points: int) -> list[int]:
    """Numbers of steps, ascending, at which to look at the front: its ends, and between them evenly in time saved and
    in the logarithm of KL, half of the points each, since quality is lost slowly first and fast in the end."""
    if not steps:
        return [0]
    by_time = [steps[-1].saves_us * i / (points - 1) for i in range(points)]
    chosen = {0, len(steps)}
    # A front that costs nothing is spread by time alone: all its logarithms are those of one small number.
    small = max(min(step.kl for step in steps), steps[-1].kl * 1e-3)
    small = small if small > 0 else 1.0
    for i in range(points - 2):
        wanted = by_time[i + 1] if i % 2 == 0 else small * (steps[-1].kl / small) ** ((i + 1) / (points - 1))
        of = [step.saves_us if i % 2 == 0 else step.kl for step in steps]
        chosen.add(1 + min(range(len(steps)), key=lambda k: abs(of[k] - wanted)))
    return _filled(sorted(chosen), points, len(steps))


def _filled(chosen: list[int], points: int, last: int) -> list[int]:
    """`chosen` with the widest gaps halved until there are `points` of them, or no gap is left."""
    while len(chosen) < min(points, last + 1):
        gap, start = max((after - before, before) for before, after in itertools.pairwise(chosen))
        chosen = sorted({*chosen, start + gap // 2})
    return chosen
