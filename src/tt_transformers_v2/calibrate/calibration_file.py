# SPDX-License-Identifier: Apache-2.0
"""A calibration file with refitted constants, in the layout of conf/calibration: one line per constant."""

from __future__ import annotations

import copy
import datetime
import glob
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..hardware.enums import Arch
from ..hardware.op_table import PHASES
from ..perf.confidence import ConfidenceRules
from .free_constants import FREE
from .refit import Refit

_FEW_MODELS = 4  # models named one by one
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*$")
_LICENSE = "# SPDX-License-Identifier: Apache-2.0"
_WRITER = "Written by the calibrate command."


def refitted_data(
    base: Mapping[str, Any], refit: Refit, *, name: str, points: str, today: datetime.date
) -> dict[str, Any]:
    """The calibration `base` with the constants of `refit`, called `name`; `points` names the measured file.

    The releases it describes become those of the fitted rows: patterns of `base` that cover one, and else the source.
    """
    data = copy.deepcopy(dict(base))
    if name != base["name"]:  # a packaged calibration that is fitted anew describes what it did
        data["name"] = name
        data["release"] = f"{base['release']}; refitted on {points}"
    rules = ConfidenceRules.from_dict(data["confidence"])
    for phase in PHASES:
        if refit.sources.get(phase):
            data["confidence"]["releases"][phase] = _releases(rules, phase, refit.sources[phase])
    for arch, values in refit.values.items():
        for constant, value in values.items():
            data[arch.value][constant] |= {
                "value": value,
                "source": f"fitted by scripts/calibrate.py on {points}, {_rows(refit, arch, constant)}",
                "date": today.isoformat(),
            }
    return data


def without_provenance(data: Mapping[str, Any], provenance: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A calibration as conf/calibration has it, of values alone, and what conf/provenance says of them beside.

    `provenance`: what it said before, which stays for constants that `data` says nothing new of.
    """
    values: dict[str, Any] = copy.deepcopy(dict(data))
    beside: dict[str, Any] = copy.deepcopy(dict(provenance))
    for arch in (arch.value for arch in Arch if arch.value in values):
        for name, entry in values[arch].items():
            said = {key: entry.pop(key) for key in list(entry) if key != "value"}
            beside.setdefault(arch, {}).setdefault(name, {}).update(said)
        beside[arch] = {name: beside[arch][name] for name in values[arch]}
    return values, beside


def _rows(refit: Refit, arch: Arch, constant: str) -> str:
    models = ", ".join(refit.models) if len(refit.models) <= _FEW_MODELS else f"{len(refit.models)} models"
    return f"{refit.rows[arch, FREE[constant].phase]} rows of {models}"


def _releases(rules: ConfidenceRules, phase: str, sources: Sequence[str]) -> list[str]:
    kept = [p for p in rules.releases[phase] if any(_only(rules, phase, p).covers_source(s, phase) for s in sources)]
    return [*kept, *(glob.escape(source) for source in sources if not rules.covers_source(source, phase))]


def _only(rules: ConfidenceRules, phase: str, pattern: str) -> ConfidenceRules:
    return ConfidenceRules(rules.decode, rules.prefill, rules.points, {phase: (pattern,)}, ())


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def calibration_text(data: Mapping[str, Any], comment: str = "") -> str:
    """`data` as YAML, `comment` above it; reading it gives `data` again."""
    release = " ".join(str(data.get("release", "")).split())
    about = f"Speed of the silicon and the software of {release}. " if release else ""
    lines = [_LICENSE, f"# {about}{_WRITER}", *_comment(comment)]
    for key, value in data.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key}: {_flow(value)}")
        elif key == "confidence":
            lines += ["", f"{key}:", *_section(value, deeper=("beyond", "releases", "left_out"))]
        else:
            lines += ["", f"{key}:", *_section(value)]
    return "\n".join(lines) + "\n"


def _section(section: Mapping[str, Any], deeper: Sequence[str] = ()) -> list[str]:
    lines = []
    for key, value in section.items():
        if key in deeper:
            lines += [f"  {key}:", *(f"    {inner}: {_flow(entry)}" for inner, entry in value.items())]
        else:
            lines.append(f"  {key}: {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    """One value on one line. Text is quoted as JSON does, which YAML reads alike; numbers have no exponent."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)


def _key(key: Any) -> str:
    return str(key) if _PLAIN_KEY.match(str(key)) else json.dumps(str(key))
