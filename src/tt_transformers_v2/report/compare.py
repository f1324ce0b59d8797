# SPDX-License-Identifier: Apache-2.0
"""Two sweeps side by side: which jobs answer which, and what got better or worse."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from .loading import BROKEN, Job
from .metrics import METRICS

TOLERANCE = 1.0  # percent; a smaller change is none
_NO_COMPARISON = ("seconds",)  # how busy the machine was, not what the configuration is worth


@dataclass(frozen=True)
class Match:
    """Jobs `before` and `after`, by index into their sweeps; `by` is "configuration" or "overrides"."""

    before: int
    after: int
    by: str


@dataclass(frozen=True)
class Change:
    """One figure before and after. `percent` of the value before, None where that is 0 or a value is missing;
    `verdict` is better, worse, same, or changed where no direction is better."""

    metric: str
    before: float | None
    after: float | None
    percent: float | None
    verdict: str


def match_jobs(before: Sequence[Job], after: Sequence[Job]) -> list[Match]:
    """Jobs of the same configuration, then of those left over the ones with the same overrides, in job order."""
    found: list[Match] = []
    found += _match(before, after, "configuration", lambda job: job.config_hash, found)
    found += _match(before, after, "overrides", _settings, found)
    return sorted(found, key=lambda match: match.before)


def _settings(job: Job) -> Hashable | None:
    return None if job.status == BROKEN else tuple(sorted(job.typed.items()))


def _match(
    before: Sequence[Job],
    after: Sequence[Job],
    by: str,
    key: Callable[[Job], Hashable | None],
    taken: Sequence[Match],
) -> list[Match]:
    used, free = {match.before for match in taken}, {match.after for match in taken}
    waiting: dict[Hashable, list[int]] = {}
    for index, job in enumerate(after):
        if index not in free and key(job) is not None:
            waiting.setdefault(key(job), []).append(index)
    return [
        Match(index, waiting[key(job)].pop(0), by)
        for index, job in enumerate(before)
        if index not in used and waiting.get(key(job))
    ]


def changes(before: Job, after: Job, tolerance: float = TOLERANCE) -> list[Change]:
    """Every figure that either job has, in the order of METRICS. `tolerance` in percent."""
    found = []
    for metric in METRICS:
        if metric.name in _NO_COMPARISON:
            continue
        old, new = metric.of(before.result), metric.of(after.result)
        if old is None and new is None:
            continue
        percent = 100 * (new - old) / abs(old) if old and new is not None else None
        found.append(Change(metric.name, old, new, percent, _verdict(old, new, percent, metric.better, tolerance)))
    return found


def status_verdict(before: Job, after: Job) -> str:
    """worse where a finished job no longer finishes, better the other way round, otherwise same."""
    if before.finished == after.finished:
        return "same"
    return "better" if after.finished else "worse"


def _verdict(old: float | None, new: float | None, percent: float | None, better: str, tolerance: float) -> str:
    if old is None or new is None:
        return "changed"
    if old == new or (percent is not None and abs(percent) <= tolerance):
        return "same"
    if not better:
        return "changed"
    return "better" if (new > old) == (better == "high") else "worse"
