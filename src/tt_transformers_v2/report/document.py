# SPDX-License-Identifier: Apache-2.0
"""One JSON document from the folders of sweeps: all that the page shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ..run.result_files import look_up
from . import compare
from .differences import as_text, split_common
from .facts import job_facts
from .knob_effects import cells_of, effects
from .loading import Job, Sweep
from .metrics import BASED, METRICS, TEXTS, Metric, badges

UNTYPED = "–"  # a knob's value in jobs that left it alone
SWEEP_KNOB = "sweep"
MOST_VALUES = 40  # of one knob; with more, its sensitivity and its filter would say nothing


def build_document(
    sweeps: Sequence[Sweep], *, compared: bool = False, tolerance: float = compare.TOLERANCE
) -> dict[str, Any]:
    """Everything the page shows, as plain JSON. With `compared`, the first two sweeps side by side as well; a change of
    at most `tolerance` percent counts as none."""
    jobs = [job for sweep in sweeps for job in sweep.jobs]
    owners = [sweep.name for sweep in sweeps for _ in sweep.jobs]
    labels = [label for sweep in sweeps for label in sweep.labels()]
    metrics = [metric for metric in METRICS if any(metric.of(job.result) is not None for job in jobs)]
    texts = {name: path for name, path in TEXTS.items() if any(look_up(job.result, path) is not None for job in jobs)}
    knobs = swept_knobs(jobs, owners)
    settings = [[values[job] for values in knobs.values()] for job in range(len(jobs))]
    numbers = [[metric.of(job.result) for metric in metrics] for job in jobs]
    bases = _Table()
    facts = _Table()
    config = _ConfigTable(jobs)
    return {
        "title": " + ".join(sweep.name for sweep in sweeps),
        "sweeps": [_sweep_json(sweep) for sweep in sweeps],
        "held": held_overrides(jobs),
        "metrics": [_metric_json(metric, jobs) for metric in metrics],
        "texts": list(texts),
        "knobs": [_knob_json(key, values) for key, values in knobs.items()],
        "jobs": [
            {
                "sweep": owner,
                "name": labels[index],
                "folder": job.name,
                "status": job.status,
                "reason": job.reason,
                "overrides": job.overrides,
                "hash": job.config_hash,
                "numbers": numbers[index],
                "texts": [_word(look_up(job.result, path)) for path in texts.values()],
                "settings": settings[index],
                "bands": [_band(metric, job) for metric in metrics],
                "bases": [bases.index(entry) for entry in _bases(job)],
                "facts": [facts.index(fact) for fact in job_facts(job.result)],
                "config": config.row(index),
            }
            for index, (job, owner) in enumerate(zip(jobs, owners, strict=True))
        ],
        "bases": bases.entries,
        "facts": facts.entries,
        "config": config.json(),
        "sensitivity": _sensitivity_json(jobs, knobs, settings, metrics, numbers),
        "comparison": _comparison_json(sweeps, tolerance) if compared else None,
        "warnings": [warning for sweep in sweeps for warning in _relative(sweep)],
    }


def swept_knobs(jobs: Sequence[Job], owners: Sequence[str] = ()) -> dict[str, list[str]]:
    """Each override that is not the same in all jobs, with its value in every job; the sweep too, if there are several.

    A broken job's overrides are unknown: it decides nothing, and its values are UNTYPED.
    """
    known = [job.typed for job in jobs if job.overrides]
    keys = dict.fromkeys(key for typed in known for key in typed)
    knobs = {key: [job.typed.get(key, UNTYPED) for job in jobs] for key in keys if _differs(known, key)}
    if len(set(owners)) > 1:
        knobs = {SWEEP_KNOB: list(owners)} | knobs
    return knobs


def held_overrides(jobs: Sequence[Job]) -> list[str]:
    """The overrides that all jobs share, as `key=value`."""
    known = [job.typed for job in jobs if job.overrides]
    return [f"{key}={value}" for key, value in (known[0].items() if known else ()) if not _differs(known, key)]


def _differs(known: Sequence[dict[str, str]], key: str) -> bool:
    return len({typed.get(key, UNTYPED) for typed in known}) > 1


def _sweep_json(sweep: Sweep) -> dict[str, Any]:
    return {
        "name": sweep.name,
        "when": sweep.when(),
        "command": sweep.command,
        "git": [{"revision": _word(git.get("revision")), "dirty": bool(git.get("dirty"))} for git in sweep.git],
        "environments": [_environment_json(found) for found in sweep.environments],
        "jobs": len(sweep.jobs),
    }


def _environment_json(environment: dict[str, Any]) -> dict[str, str]:
    """Versions and machine by name, those that are known."""
    packages = environment.get("packages")
    known = {key: environment.get(key) for key in ("python", "platform", "cpus")}
    known = (packages if isinstance(packages, dict) else {}) | known
    return {str(name): _word(value) for name, value in known.items() if value is not None}


def _metric_json(metric: Metric, jobs: Sequence[Job]) -> dict[str, Any]:
    having = [job for job in jobs if metric.of(job.result) is not None]
    said = [badge for job in having for badge in badges(str(look_up(job.result, _basis_path(metric)) or ""))]
    return {
        "name": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        "better": metric.better,
        "form": metric.form,
        "group": metric.group,
        "badges": list(dict.fromkeys(said)),
    }


def _basis_path(metric: Metric) -> str:
    """Where the basis of `metric` stands: beside it."""
    return f"{metric.path.rpartition('.')[0] or metric.group}.basis"


def _band(metric: Metric, job: Job) -> float | None:
    band = look_up(job.result, f"performance.{metric.band}.band_percent") if metric.band else None
    return float(band) if isinstance(band, int | float) and math.isfinite(band) else None


def _bases(job: Job) -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for section in BASED:
        basis = look_up(job.result, f"{section}.basis")
        if isinstance(basis, str):
            found.append((section.partition(".")[0], basis, tuple(badges(basis))))
    return found


def _knob_json(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "values": list(dict.fromkeys(values))}


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _sensitivity_json(
    jobs: Sequence[Job],
    knobs: dict[str, list[str]],
    settings: Sequence[Sequence[str]],
    metrics: Sequence[Metric],
    numbers: Sequence[Sequence[float | None]],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Knob -> metric -> one effect per value, over finished jobs."""
    done = [index for index, job in enumerate(jobs) if job.finished]
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for position, key in enumerate(knobs):
        values = list(dict.fromkeys(knobs[key][index] for index in done))
        if not 1 < len(values) <= MOST_VALUES:
            continue
        cells = cells_of(position, [settings[index] for index in done])
        found[key] = {
            metric.name: [
                dataclasses.asdict(effect)
                for effect in effects(cells, values, [numbers[index][column] for index in done])
            ]
            for column, metric in enumerate(metrics)
        }
    return found


def _comparison_json(sweeps: Sequence[Sweep], tolerance: float) -> dict[str, Any]:
    before, after = sweeps[0], sweeps[1]
    matches = compare.match_jobs(before.jobs, after.jobs)
    first_after = len(before.jobs)
    return {
        "before": before.name,
        "after": after.name,
        "tolerance": tolerance,
        "matches": [
            {
                "before": match.before,
                "after": first_after + match.after,
                "by": match.by,
                "status": compare.status_verdict(before.jobs[match.before], after.jobs[match.after]),
                "changes": [
                    dataclasses.asdict(change)
                    for change in compare.changes(before.jobs[match.before], after.jobs[match.after], tolerance)
                ],
            }
            for match in matches
        ],
        "only_before": sorted(set(range(len(before.jobs))) - {match.before for match in matches}),
        "only_after": [
            first_after + index for index in sorted(set(range(len(after.jobs))) - {match.after for match in matches})
        ],
    }


def _relative(sweep: Sweep) -> list[str]:
    """The sweep's warnings without the folder it happens to lie in: a report is for passing on."""
    return [warning.replace(str(sweep.folder), sweep.name) for warning in sweep.warnings]


class _Table:
    """Distinct entries in the order they came; jobs refer to them by index."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._found: dict[Any, int] = {}

    def index(self, entry: Any) -> int:
        if entry not in self._found:
            self._found[entry] = len(self.entries)
            self.entries.append(entry)
        return self._found[entry]


class _ConfigTable:
    """The configurations of all jobs: what they share once, and of each differing path the distinct values."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        rows = [index for index, job in enumerate(jobs) if job.config]
        self._rows = {index: row for row, index in enumerate(rows)}
        self._common, varying = split_common([jobs[index].config or {} for index in rows])
        self._values = {path: _Table() for path in varying}
        self._columns = {
            path: [self._values[path].index(as_text(value)) for value in values] for path, values in varying.items()
        }

    def row(self, job: int) -> list[int] | None:
        """Of every differing path, which of its values `job` has; None for a job without a configuration."""
        row = self._rows.get(job)
        return None if row is None else [column[row] for column in self._columns.values()]

    def json(self) -> dict[str, Any]:
        return {
            "common": {path: as_text(value) for path, value in self._common.items()},
            "varying": [{"path": path, "values": table.entries} for path, table in self._values.items()],
        }
