# SPDX-License-Identifier: Apache-2.0
"""What reading somebody else's configuration gives, and what writing one gives."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...hardware.schema import DeviceConfig
from ..findings import Finding
from ..layers import LayerEntry, apply_layers
from ..value_paths import set_value, unset_finer


@dataclass(frozen=True)
class Imported:
    """What a file or string asks for, beyond a precision mode and the model's rules.

    `mode` is the precision mode it names, or None; `values` maps dotted paths to values for every layer; `workload`
    maps those of an experiment that no DeviceConfig has, workload.* and model.*; `layers` are per-layer entries;
    `custom_configs` keeps what has no field of ours, by the name of its format; `findings` say what a reader should
    know.
    """

    mode: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    layers: list[LayerEntry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    custom_configs: Mapping[str, Any] = field(default_factory=dict)

    def applied(self, config: DeviceConfig, num_layers: int) -> DeviceConfig:
        """A copy of `config` with everything asked for set; a coarse value reaches the finer groups below it.

        `config` should be the preset of `mode` with the model's rules applied, as AutoHardwareConfig.from_device makes
        it. Raises ConfigError for layers that a model of `num_layers` has not.
        """
        changed = copy.deepcopy(config)
        if self.custom_configs:
            changed.custom_configs = {**(changed.custom_configs or {}), **copy.deepcopy(dict(self.custom_configs))}
        bases = [changed, *(own for own, _ in changed.own_layers())]
        for base in bases:
            _set(base, self.values)
        layers = dict(changed.layers)
        for base in bases:
            for layer, own in apply_layers(base, self.layers, num_layers).items():
                if changed.for_layer(layer) is base:
                    layers[layer] = own
        changed.layers = dict(sorted(layers.items()))
        return changed


class Written(str):
    """The text that was written; `findings` say what a lossy write changed or left out."""

    findings: tuple[Finding, ...]

    def __new__(cls, text: str, findings: Iterable[Finding] = ()) -> Written:
        """A string that is `text` and carries `findings`."""
        written = super().__new__(cls, text)
        written.findings = tuple(findings)
        return written


def _set(config: DeviceConfig, values: Mapping[str, Any]) -> None:
    unset_finer(config, values)
    for path, value in values.items():
        set_value(config, path, value)
