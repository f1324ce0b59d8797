# SPDX-License-Identifier: Apache-2.0
"""An assignment in words: what most layers have at each site, and the exceptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..config.layers import write_select
from ..config.search_schema import Rounding
from ..hardware.op_table import READERS
from .space import Assignment, Option, Space

# Site -> what it is called: FF1/FF3.
_CALLED = {site: "/".join(op.title for op in ops) for site, ops in READERS.items()}


def in_words(space: Space, assignment: Assignment) -> str:
    """For example: FF1/FF3 BFP4 but BFP8 in layers 0, 29; FF2, WO BFP8."""
    alike: dict[str, list[str]] = {}
    for site, options in space.options.items():
        if len(options) > 1:
            chosen = {place.layer: option for place, option in assignment.items() if place.site == site}
            alike.setdefault(_site(chosen), []).append(_CALLED[site])
    return "; ".join(f"{', '.join(sites)} {text}" for text, sites in alike.items())


def _site(chosen: dict[int, Option]) -> str:
    most, _ = Counter(chosen.values()).most_common(1)[0]
    others: dict[Option, list[int]] = {}
    for layer, option in sorted(chosen.items()):
        if option != most:
            others.setdefault(option, []).append(layer)
    exceptions = [f"{_named(option, [most, *others])} in {_layers(layers)}" for option, layers in others.items()]
    but = f" but {', '.join(exceptions)}" if exceptions else ""
    return f"{_named(most, [most, *others])}{but}"


def _named(option: Option, among: Sequence[Option]) -> str:
    """The format alone, or with its rounding, where that tells the options apart."""
    formats = [_format(each) for each in among]
    return _format(option) if option.format is not None and len(set(formats)) == len(formats) else option.text


def _format(option: Option) -> str:
    return f"{option.format}{' calibrated' if option.rounding is Rounding.calibrated else ''}"


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {write_select(layers)}"
