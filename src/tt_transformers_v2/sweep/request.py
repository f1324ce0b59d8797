# SPDX-License-Identifier: Apache-2.0
"""What a command line asks of a sweep: its axes, its settings, and how to recognise the same sweep again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..config.building import build
from ..config.composition import compose, parse_override
from ..config.overrides import as_typed, check_overrides
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
    typed = as_typed(overrides)
    check_overrides(typed, multirun=True)
    control = [text for text in typed if _is_control(text)]
    jobs = [text for text in typed if not _is_control(text)]
    _refuse_several(control)
    composed = compose(check_overrides([*control, *_experiment(jobs)], multirun=True).texts)
    settings = build(SweepConfig, composed.get("sweep") or {}, "sweep")
    launcher = build(LauncherConfig, composed.get("launcher") or {}, "launcher")
    named = sorted(f"sweep.axes+={axis}" for axis in settings.axes)
    paired = [f"sweep.pairs+={pair}" for pair in settings.pairs]
    return Request(axes_of(jobs, settings.axes, settings.pairs), settings, launcher, [*sorted(jobs), *named, *paired])


def _is_control(text: str) -> bool:
    return _key(text).split(".")[0] in _SECTIONS


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


def _refuse_several(control: Sequence[str]) -> None:
    """The settings of a sweep have one value each."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in control:
        if OverridesParser.create().parse_override(text).is_sweep_override():
            raise ConfigError(f"{text!r}: {_key(text)} holds for the whole sweep and takes one value.")


def _experiment(jobs: Sequence[str]) -> list[str]:
    """The choice of a file in conf/experiment, which may bring axes and settings."""
    chosen = [text for text in jobs if _key(text) == "experiment"]
    for text in chosen:
        checked = check_overrides([text], multirun=True).texts[0]
        if "," in checked or "(" in checked:
            raise ConfigError(f"{text!r}: a sweep takes one experiment.", "Run one sweep after the other.")
        parse_override(checked)
    return chosen
