# SPDX-License-Identifier: Apache-2.0
"""What a search says of rounding: the text that weights were calibrated on, and each layer's sensitivity before and
after."""

from __future__ import annotations

from typing import Any

from ..config.search_schema import Rounding
from .roundings import unrounded
from .sensitivity import Change, Sensitivities
from .space import Option, Place
from .subject import Subject


def rounding_record(subject: Subject, measured: Sensitivities) -> dict[str, Any]:
    """How weights were calibrated, and for each option in a block format and each layer the KL that it adds, summed
    over the sites for which both roundings are known."""
    assert subject.calibrated is not None
    settings = subject.settings
    return (
        {"choices": [str(rounding) for rounding in settings.rounding]}
        | subject.calibrated.record()
        | {"layers": _layers(subject, measured)}
    )


def _layers(subject: Subject, measured: Sensitivities) -> list[dict[str, Any]]:
    """A row for each layer and option: KL added by the sites that have it, rounded to nearest and calibrated."""
    base = subject.space.base()
    known: dict[tuple[Place, Any], dict[Rounding, tuple[Option, float]]] = {}
    for change in [*base.items(), *measured.changes()]:
        place, option = change
        known.setdefault((place, unrounded(option)), {})[option.rounding] = option, _kl(measured, base, change)
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for (place, _), found in known.items():
        if len(found) < 2:
            continue
        (plain, nearest), (_, calibrated) = found[Rounding.nearest], found[Rounding.calibrated]
        row = rows.setdefault(
            (place.layer, plain.text),
            {"layer": place.layer, "option": plain.text, "sites": 0, "nearest": 0.0, "calibrated": 0.0},
        )
        row["sites"] += 1
        row["nearest"] += nearest
        row["calibrated"] += calibrated
    return [rows[key] for key in sorted(rows, key=lambda key: (key[1], key[0]))]


def _kl(measured: Sensitivities, base: dict[Place, Option], change: Change) -> float:
    place, option = change
    return 0.0 if base[place] == option else measured.kl_change(change)
