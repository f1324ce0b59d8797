# SPDX-License-Identifier: Apache-2.0
"""Every job of a sweep, composed and checked before the first starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import ConfigError
from ..config.composition import compose
from ..config.overrides import as_typed, typed_paths
from ..config.resolve import resolve_or_refuse
from .axes import Axis, combinations

PLANNED, SKIPPED, DUPLICATE = "planned", "skipped", "duplicate"
_SLUG_LENGTH = 40
_SECTIONS = ("sweep", "launcher")


@dataclass
class PlannedJob:
    """One job. `name` is its folder's; `reason` says why it is skipped; `typed` and `tree` are what `resolve` takes."""

    number: int
    name: str
    status: str
    overrides: list[str]
    config_hash: str | None = None
    reason: str = ""
    typed: list[str] = field(default_factory=list)
    tree: dict[str, Any] = field(default_factory=dict)


def plan_jobs(axes: Sequence[Axis], total: int) -> Iterator[PlannedJob]:
    """Every combination in order: to be run, skipped because it cannot be, or a duplicate of an earlier one."""
    swept = {key for axis in axes if len(axis.points) > 1 for key in axis.keys}
    width = max(3, len(str(total - 1)))
    first: dict[str, str] = {}
    for number, texts in enumerate(combinations(axes)):
        job = _planned(number, texts)
        job.name = _folder_name(job, swept, width)
        if job.status == PLANNED and job.config_hash is not None:
            original = first.setdefault(job.config_hash, job.name)
            if original != job.name:
                job.status, job.reason = DUPLICATE, f"the same configuration as {original}"
        yield job


def _planned(number: int, texts: Sequence[str]) -> PlannedJob:
    job = PlannedJob(number, "", PLANNED, as_typed(texts))
    try:
        asked = typed_paths(texts)
        job.typed = sorted(asked)
        composed = compose(texts)
        job.tree = {key: value for key, value in composed.items() if key not in _SECTIONS}
        # Resolving changes what it is given, and the tree is to be frozen as composed.
        job.config_hash = resolve_or_refuse(_copied(job.tree), asked).config_hash()
    except ConfigError as error:
        job.status, job.reason = SKIPPED, str(error)
    except Exception as error:
        # A mistake of ours: the job runs into it again and leaves its traceback.
        job.reason = f"{type(error).__name__}: {error}"
    return job


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else tree


def _folder_name(job: PlannedJob, swept: set[str], width: int) -> str:
    """Number, what is swept and the configuration's hash, in characters that every file system takes."""
    pairs = (text.partition("=") for text in job.overrides)
    values = "_".join(value for key, _, value in pairs if key in swept)
    slug = re.sub(r"[^A-Za-z0-9.+_-]+", "-", values)[:_SLUG_LENGTH].strip("-._")
    return "_".join(part for part in (f"{job.number:0{width}d}", slug, job.config_hash) if part)
