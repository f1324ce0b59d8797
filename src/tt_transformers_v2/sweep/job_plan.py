# SPDX-License-Identifier: Apache-2.0
"""Every job of a sweep, composed and checked before the first starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import ConfigError
from ..config.composition import compose
from ..config.experiment_json import to_sections
from ..config.overrides import Overrides
from ..config.resolve import resolve_or_refuse
from .axes import Axis, combinations

PLANNED, SKIPPED, DUPLICATE = "planned", "skipped", "duplicate"
_SLUG_LENGTH = 40
_SECTIONS = ("sweep", "launcher")


@dataclass
class PlannedJob:
    """One job. `name` is its folder's; `reason` says why it is skipped; `sections` are its resolved experiment."""

    number: int
    name: str
    status: str
    overrides: list[str]
    config_hash: str | None = None
    reason: str = ""
    sections: dict[str, Any] = field(default_factory=dict)


def plan_jobs(axes: Sequence[Axis], total: int) -> Iterator[PlannedJob]:
    """Every combination in order: to be run, skipped because it is invalid, or a duplicate of an earlier one."""
    swept = {key for axis in axes if len(axis.points) > 1 for key in axis.keys}
    width = max(3, len(str(total - 1)))
    first: dict[str, str] = {}
    for number, overrides in enumerate(combinations(axes)):
        job = _planned(number, overrides)
        job.name = _folder_name(job, swept, width)
        if job.status == PLANNED and job.config_hash is not None:
            original = first.setdefault(job.config_hash, job.name)
            if original != job.name:
                job.status, job.reason = DUPLICATE, f"the same configuration as {original}"
        yield job


def _planned(number: int, overrides: Overrides) -> PlannedJob:
    job = PlannedJob(number, "", PLANNED, overrides.texts)
    try:
        composed = {key: value for key, value in compose(overrides).items() if key not in _SECTIONS}
        experiment = resolve_or_refuse(composed, overrides.typed)
        job.config_hash = experiment.config_hash()
        job.sections = to_sections(experiment)
    except ConfigError as error:
        job.status, job.reason = SKIPPED, str(error)
    except Exception as error:
        job.status, job.reason = SKIPPED, f"{type(error).__name__}: {error} (a bug in this package, not in the job)"
    return job


def _folder_name(job: PlannedJob, swept: set[str], width: int) -> str:
    """Number, what is swept and the configuration's hash, in characters that every file system takes."""
    pairs = (text.partition("=") for text in job.overrides)
    values = "_".join(value for key, _, value in pairs if key in swept)
    slug = re.sub(r"[^A-Za-z0-9.+_-]+", "-", values)[:_SLUG_LENGTH].strip("-._")
    return "_".join(part for part in (f"{job.number:0{width}d}", slug, job.config_hash) if part)
