# SPDX-License-Identifier: Apache-2.0
"""How weights are rounded, as a further choice of a search: every option in a block format, once for each rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..common.errors import ConfigError
from ..config.search_schema import Rounding
from ..hardware.enums import DataFormat
from ..hardware.op_table import READERS
from ..hardware.schema import DeviceConfig
from .space import Assignment, Option, Space

# Sites of weights that layers have, by the matrices of which they are calibrated (quantize.calibrated).
_OF_LAYERS = frozenset(site for site, ops in READERS.items() if ops[0].matrix and ops[0].in_layer)


def with_roundings(space: Space, roundings: Sequence[Rounding], hardware: DeviceConfig) -> Space:
    """`space` with each option of layers' weights in a block format once for each of `roundings`, the calibrated one
    first: the more accurate one. An option without a format has the one that `hardware` has there.

    Raises ConfigError where there is nothing to calibrate.
    """
    if Rounding.calibrated not in roundings:
        return space
    order = sorted(roundings, key=lambda rounding: rounding is Rounding.nearest)
    options = {
        site: tuple(
            rounded
            for option in found
            for rounded in (_each(option, order) if _in_blocks(site, option, hardware) else (option,))
        )
        for site, found in space.options.items()
    }
    if options == space.options:
        raise ConfigError(
            f"search.rounding=[{','.join(map(str, roundings))}], but no option of search.space has layers' weights in "
            "BFP8 or BFP4.",
            "Leave search.rounding unset, or add one: search.space.ff2=[BF16/HIFI2,BFP4/LOFI].",
        )
    return dataclasses.replace(space, options=options)


def unrounded(option: Option) -> tuple[object, ...]:
    """What options that differ in their rounding alone have in common."""
    return option.format, option.kernel


def calibrated_layers(assignment: Assignment) -> dict[str, list[int]]:
    """The layers in which each site is calibrated, ascending; without sites that are nowhere."""
    found: dict[str, list[int]] = {}
    for place, option in sorted(assignment.items()):
        if option.rounding is Rounding.calibrated:
            found.setdefault(place.site, []).append(place.layer)
    return found


def _each(option: Option, roundings: Sequence[Rounding]) -> list[Option]:
    return [
        option
        if rounding is Rounding.nearest
        else dataclasses.replace(option, rounding=rounding, text=f"{option.text} {rounding}")
        for rounding in roundings
    ]


def _in_blocks(site: str, option: Option, hardware: DeviceConfig) -> bool:
    if site not in _OF_LAYERS:
        return False
    if option.format is not None:
        return option.format is not DataFormat.BF16
    own = [hardware, *hardware.layers.values()]
    return any(each.precision.of(site) is not DataFormat.BF16 for each in own)
