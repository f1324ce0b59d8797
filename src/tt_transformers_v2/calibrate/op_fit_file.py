# SPDX-License-Identifier: Apache-2.0
"""Op costs that were fitted, as a calibration file's data and as text."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from typing import Any

from ..hardware.enums import Arch
from .op_fit import FREE, OpFit


def refitted_ops(base: Mapping[str, Any], fit: OpFit, *, name: str, ops: str, today: datetime.date) -> dict[str, Any]:
    """The calibration `base` with the op costs of `fit`, called `name`; `ops` names the measured file."""
    data = copy.deepcopy(dict(base))
    data["name"] = name
    data["release"] = f"{base['release']}; op costs refitted on {ops}"
    for arch, values in fit.values.items():
        for constant, value in values.items():
            first, _, part = constant.partition(".")
            entry = data[arch.value][first]
            if part:
                entry["value"] = {**entry["value"], part: value}
            else:
                entry["value"] = value
            rows = fit.rows[arch, _class_of(constant)]
            entry["source"] = f"fitted by scripts/calibrate.py on {ops}, {rows} rows ({_class_of(constant)})"
            entry["date"] = today.isoformat()
    return data


def op_fit_lines(base: Mapping[str, Any], fit: OpFit) -> list[str]:
    """Old and new values by architecture, what stayed and why, and what the rows cannot tell apart."""
    lines: list[str] = []
    for arch, values in fit.values.items():
        lines += [*([""] if lines else []), str(arch)]
        lines += [f"  {name:32} {_value(base, arch, name):8g} -> {value:g}" for name, value in values.items()]
        by_reason: dict[str, list[str]] = {}
        for name, reason in fit.kept[arch].items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"  kept {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        lines += [
            f"  warning: the rows can hardly tell {first} from {second}; the prior decides"
            for first, second in fit.alike[arch]
        ]
    return lines


def _class_of(constant: str) -> str:
    return next(group for group, names in FREE.items() if constant in names)


def _value(base: Mapping[str, Any], arch: Arch, constant: str) -> float:
    first, _, part = constant.partition(".")
    value = base[arch.value][first]["value"]
    return float(value[part] if part else value)
