# SPDX-License-Identifier: Apache-2.0
"""What a command line asks of a sweep: its axes, its settings, and how to recognise the same sweep again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..config.building import build
from ..config.composition import compose
from ..config.overrides import Override, Overrides, check_overrides
from ..config.sweep_schema import LauncherConfig, SweepConfig
from .axes import Axis, axes_of

_SECTIONS = ("sweep", "launcher")


@dataclass(frozen=True)
class Request:
    """`axes` and settings of a sweep; `command` are the overrides that say which jobs there are, sorted."""

    axes: list[Axis]
    sweep: SweepConfig
    launcher: LauncherConfig
    command: list[str]

    @property
    def names_jobs(self) -> bool:
        """Whether it says which jobs to run; a bare `sweep.resume=DIR` does not."""
        return bool(self.command)


def read_request(overrides: Sequence[str]) -> Request:
    """The sweep that the overrides of a command line ask for. Raises ConfigError naming everything wrong."""
    checked = check_overrides([text.removeprefix("++") for text in overrides], multirun=True)
    control = [item for item in checked.items if item.key.split(".")[0] in _SECTIONS]
    jobs = [item for item in checked.items if item not in control]
    _refuse_several(control)
    composed = compose(Overrides((*control, *_experiment(jobs))))
    settings = build(SweepConfig, composed.get("sweep") or {}, "sweep")
    launcher = build(LauncherConfig, composed.get("launcher") or {}, "launcher")
    named = sorted(f"sweep.axes+={axis}" for axis in settings.axes)
    paired = [f"sweep.pairs+={pair}" for pair in settings.pairs]
    command = [*sorted(item.text for item in jobs), *named, *paired]
    return Request(axes_of(jobs, settings.axes, settings.pairs), settings, launcher, command)


def _refuse_several(control: Sequence[Override]) -> None:
    """The settings of a sweep have one value each."""
    for item in control:
        if item.sweep is not None:
            raise ConfigError(f"{item.text!r}: {item.key} applies to the whole sweep and takes one value.")


def _experiment(jobs: Sequence[Override]) -> list[Override]:
    """The choice of a file in conf/experiment, which may bring axes and settings."""
    chosen = [item for item in jobs if item.key == "experiment"]
    for item in chosen:
        if item.sweep is not None:
            raise ConfigError(f"{item.text!r}: a sweep takes one experiment.", "Run one sweep after another.")
    return chosen
