# SPDX-License-Identifier: Apache-2.0
"""Dotted paths into a DeviceConfig: precision.*, compute.GROUP.*, memory.*, parallelism.* and device.*."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..hardware.op_table import TENSOR_GROUP_PARENTS
from ..hardware.schema import ComputeOverride, DeviceConfig
from .precedence import governed_by


def get_value(config: DeviceConfig, path: str) -> Any:
    """The value at a dotted path, inheritance included. Raises ConfigError for an unknown group."""
    section, *rest = path.split(".")
    if section == "precision":
        return config.precision.of(rest[0])
    if section == "compute":
        return getattr(config.compute_for(rest[0]), rest[1])
    if section == "device":
        return getattr(config if hasattr(config, rest[0]) else config.spec, rest[0])
    return getattr(getattr(config, section), rest[0])


def set_value(config: DeviceConfig, path: str, value: Any) -> None:
    """Sets the value at a dotted path. Raises ConfigError or AttributeError for what cannot be set."""
    section, *rest = path.split(".")
    if section == "compute":
        setattr(config.compute.setdefault(rest[0], ComputeOverride()), rest[1], value)
    elif section == "device":
        setattr(config if hasattr(config, rest[0]) else config.spec, rest[0], value)
    else:
        setattr(getattr(config, section), rest[0], value)


def unset_finer(config: DeviceConfig, paths: Iterable[str], typed: Iterable[str] = ()) -> None:
    """Lets coarse `paths` reach the finer groups: those become null, which inherits, unless `paths` has them too.

    What the user `typed`, and what such a value governs, stays.
    """
    asked, kept = set(paths), set(typed)
    for group, own in config.compute.items():
        if isinstance(own, ComputeOverride):
            for name, value in vars(own).items():
                path = f"compute.{group}.{name}"
                if value is not None and _released(path, asked, kept):
                    setattr(own, name, None)
    for group in TENSOR_GROUP_PARENTS:
        path = f"precision.{group}"
        if getattr(config.precision, group) is not None and _released(path, asked, kept):
            setattr(config.precision, group, None)


def _released(path: str, asked: set[str], kept: set[str]) -> bool:
    """Whether a coarser path of `asked` takes `path` over, which nothing of `kept` decides."""
    return path not in asked and governed_by(path, asked) is not None and governed_by(path, kept) is None
