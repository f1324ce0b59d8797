# SPDX-License-Identifier: Apache-2.0
"""The layers of a model in groups that cost and run alike: of one configuration, and of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..hardware.schema import DeviceConfig
from ..models.layer_spec import LayerSpec
from ..models.spec import ModelSpec


class LayerGroup(NamedTuple):
    """`layers` that share a hardware configuration and compute the same."""

    hardware: DeviceConfig
    kind: LayerSpec
    layers: Sequence[int]


def layer_groups(hardware: DeviceConfig, spec: ModelSpec) -> list[LayerGroup]:
    """The groups: those of the common configuration first, the kinds of each in the order of their first layers."""
    configured = hardware.layer_kinds(spec.num_layers)
    if not spec.kinds:
        kind = spec.layer(0)
        return [LayerGroup(own, kind, layers) for own, layers in configured]
    groups = []
    for own, layers in configured:
        of_kind: dict[int, list[int]] = {}
        for layer in layers:
            of_kind.setdefault(spec.pattern[layer], []).append(layer)
        groups += [LayerGroup(own, spec.kinds[number], same) for number, same in of_kind.items()]
    return groups


def ordered_groups(hardware: DeviceConfig, spec: ModelSpec) -> list[LayerGroup]:
    """The groups in the order of their first layers."""
    return sorted(layer_groups(hardware, spec), key=lambda group: min(group.layers))
