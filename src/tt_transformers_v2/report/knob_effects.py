# SPDX-License-Identifier: Apache-2.0
"""How much each swept knob moves a figure, all other knobs held equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

_Cells = dict[tuple[str, ...], dict[str, list[int]]]


@dataclass(frozen=True)
class Effect:
    """One value of a knob against the knob's first value.

    Args:
        value: of the knob.
        jobs: how many jobs with it have the figure; `mean` is over those, None without any.
        pairs: settings of the other knobs under which both this value and the first one were run.
        difference: mean over the pairs, in the figure's unit; `low` and `high` are the extremes. None without pairs,
            and for the first value itself.
        percent: `difference` of the first value's mean over the same pairs; None where that is 0.
    """

    value: str
    jobs: int
    mean: float | None
    pairs: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    percent: float | None = None


def cells_of(knob: int, settings: Sequence[Sequence[str]]) -> _Cells:
    """Jobs, by index into `settings` (each job's value of every knob), by the other knobs' values and by this one's."""
    cells: _Cells = {}
    for job, values in enumerate(settings):
        others = (*values[:knob], *values[knob + 1 :])
        cells.setdefault(others, {}).setdefault(values[knob], []).append(job)
    return cells


def effects(cells: _Cells, values: Sequence[str], figures: Sequence[float | None]) -> list[Effect]:
    """One effect per value of the knob, in order. Jobs that repeat a setting count as one, by their mean."""
    cell_means = [_means(cell, figures) for cell in cells.values()]
    found = []
    for value in values:
        of_value = [
            figure for cell in cells.values() for job in cell.get(value, ()) if (figure := figures[job]) is not None
        ]
        mean = fmean(of_value) if of_value else None
        pairs = [(means[values[0]], means[value]) for means in cell_means if values[0] in means and value in means]
        found.append(_effect(value, len(of_value), mean, [] if value == values[0] else pairs))
    return found


def _means(cell: dict[str, list[int]], figures: Sequence[float | None]) -> dict[str, float]:
    known = {value: [figure for job in jobs if (figure := figures[job]) is not None] for value, jobs in cell.items()}
    return {value: fmean(found) for value, found in known.items() if found}


def _effect(value: str, jobs: int, mean: float | None, pairs: list[tuple[float, float]]) -> Effect:
    if not pairs:
        return Effect(value, jobs, mean)
    differences = [other - first for first, other in pairs]
    difference, start = fmean(differences), fmean(first for first, _ in pairs)
    percent = 100 * difference / abs(start) if start else None
    return Effect(value, jobs, mean, len(pairs), difference, min(differences), max(differences), percent)
