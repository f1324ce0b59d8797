# SPDX-License-Identifier: Apache-2.0
"""Per-layer entries: which layers, and what differs there.

An entry is `{select: "0..3, -1", precision: {...}, compute: {...}}`. `select` is a comma-separated list of layer
numbers, inclusive ranges `a..b` with an optional step `a..b:2`, and `all`; negative numbers count from the end. A
coarse group in an entry reaches the finer ones below it; of two entries for one layer the later wins.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.checked import coerce, field_types
from ..common.errors import ConfigError, did_you_mean
from ..hardware.op_table import GLOBAL_OP_GROUPS, GLOBAL_TENSOR_GROUPS, OP_GROUPS
from ..hardware.schema import ComputeConfig, DeviceConfig, PrecisionConfig
from .precedence import governed_by, leaf_paths
from .value_paths import get_value, set_value, unset_finer

_PART = re.compile(r"(-?\d+)(?:\.\.(-?\d+)(?::(\d+))?)?$")


@dataclass(frozen=True)
class LayerEntry:
    """One entry, as written. `origin` names the file or rule it came from; "" means that the user typed it."""

    select: str
    precision: Mapping[str, Any] = field(default_factory=dict)
    compute: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origin: str = ""

    def values(self) -> dict[str, Any]:
        """Dotted path -> value."""
        return {**_leaves("precision", self.precision), **_leaves("compute", self.compute)}

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain mappings, which `layer_entry` reads; without its origin."""
        return {"select": self.select, "precision": dict(self.precision), "compute": _plain(self.compute)}


def layer_entry(mapping: Any, where: str = "layers", origin: str = "") -> LayerEntry:
    """A checked entry from a mapping. Raises ConfigError for unknown keys, groups and values, naming the nearest."""
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where} must be a mapping with select, precision and compute, not {mapping!r}.")
    for key in mapping:
        if key not in ("select", "precision", "compute"):
            raise ConfigError(f"unknown key {where}.{key}.", did_you_mean(str(key), ("select", "precision", "compute")))
    select = mapping.get("select")
    if isinstance(select, bool) or not isinstance(select, (str, int)):
        raise ConfigError(f'{where}.select must name layers, for example "0..3, -1" or all, not {select!r}.')
    precision = _checked_precision(mapping.get("precision") or {}, f"{where}.precision")
    compute = _checked_compute(mapping.get("compute") or {}, f"{where}.compute")
    if not precision and not compute:
        raise ConfigError(f"{where} changes nothing.", "Set precision or compute.")
    return LayerEntry(str(select), precision, compute, origin)


def selected_layers(select: str, num_layers: int, where: str = "layers.select") -> list[int]:
    """The layer numbers `select` means, ascending.

    Raises ConfigError, naming `where`, for bad syntax and numbers out of range.
    """
    chosen: set[int] = set()
    for part in (piece.strip() for piece in select.split(",")):
        if part == "all":
            chosen.update(range(num_layers))
            continue
        match = _PART.match(part)
        if match is None:
            raise ConfigError(f"{where}: cannot read {part!r}.", 'Write numbers, a..b, a..b:step or all: "0..3, -1".')
        first = _layer_number(int(match[1]), num_layers, where)
        last = _layer_number(int(match[2]), num_layers, where) if match[2] else first
        step = int(match[3]) if match[3] else 1
        if step < 1 or last < first:
            raise ConfigError(
                f"{where}: {part!r} selects nothing.", "Ranges must ascend, and steps must be at least 1."
            )
        chosen.update(range(first, last + 1, step))
    return sorted(chosen)


def write_select(layers: Iterable[int]) -> str:
    """The shortest plain way to write layer numbers: runs become ranges."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)


def apply_layers(
    config: DeviceConfig, entries: Sequence[LayerEntry], num_layers: int, typed: Iterable[str] = ()
) -> dict[int, DeviceConfig]:
    """Layer number -> its own configuration, for the layers that differ from `config`.

    Entries with an origin give way to what the user typed for the whole model; typed entries do not. Layers with
    equal settings share one object.
    """
    asked = set(typed)
    changes: dict[int, dict[str, Any]] = {}
    for entry in entries:
        values = entry.values()
        if entry.origin:
            values = {path: value for path, value in values.items() if governed_by(path, asked) is None}
            values |= {path: get_value(config, path) for path in asked if governed_by(path, values)}
        for layer in selected_layers(entry.select, num_layers) if values else ():
            own = changes.setdefault(layer, {})
            for path in [path for path in own if path not in values and governed_by(path, values)]:
                del own[path]
            own.update(values)
    shared: dict[str, DeviceConfig] = {}
    return {layer: _changed(config, own, shared) for layer, own in sorted(changes.items())}


def _changed(config: DeviceConfig, values: dict[str, Any], shared: dict[str, DeviceConfig]) -> DeviceConfig:
    key = repr(sorted((path, str(value)) for path, value in values.items()))
    if key not in shared:
        own = copy.copy(config)
        own.precision, own.compute = copy.deepcopy(config.precision), copy.deepcopy(config.compute)
        own.layers = {}
        unset_finer(own, values)
        for path, value in values.items():
            set_value(own, path, value)
        shared[key] = own
    return shared[key]


def _layer_number(number: int, num_layers: int, where: str) -> int:
    if not -num_layers <= number < num_layers:
        raise ConfigError(
            f"{where}: there is no layer {number}.",
            f"The model has {num_layers} layers: 0 to {num_layers - 1}, or -{num_layers} to -1 from the end.",
        )
    return number % num_layers


def _checked_precision(mapping: Any, where: str) -> dict[str, Any]:
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {mapping!r}.")
    known = {n: a for n, a in field_types(PrecisionConfig).items() if n not in GLOBAL_TENSOR_GROUPS}
    return {str(key): _checked(known, key, value, where) for key, value in mapping.items()}


def _checked_compute(mapping: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {mapping!r}.")
    groups = [group for group in OP_GROUPS if group not in GLOBAL_OP_GROUPS]
    checked: dict[str, dict[str, Any]] = {}
    for group, settings in mapping.items():
        if group not in groups:
            raise ConfigError(f"unknown key {where}.{group}.", did_you_mean(str(group), groups))
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{where}.{group} must be a mapping, not {settings!r}.")
        known = field_types(ComputeConfig)
        checked[str(group)] = {str(k): _checked(known, k, v, f"{where}.{group}") for k, v in settings.items()}
    return checked


def _checked(known: Mapping[str, Any], key: Any, value: Any, where: str) -> Any:
    if key not in known:
        raise ConfigError(f"unknown key {where}.{key}.", did_you_mean(str(key), known))
    if value is None:
        raise ConfigError(f"{where}.{key} must have a value.")
    return coerce(f"{where}.{key}", known[key], value)


def _leaves(section: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    return leaf_paths(section, mapping) if mapping else {}


def _plain(compute: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {group: dict(settings) for group, settings in compute.items()}
