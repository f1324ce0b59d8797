# SPDX-License-Identifier: Apache-2.0
"""A resolved experiment as plain JSON sections and back, so that it is resolved once, whichever process runs it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from ..common.checked import field_types
from ..hardware.enums import DeviceType
from ..hardware.op_table import ROOT_OP_GROUPS
from ..hardware.schema import ComputeConfig, ComputeOverride, DeviceConfig, DeviceSpec, PrecisionConfig
from ..models.layer_spec import LayerSpec
from ..models.spec import OF_LAYERS, ModelSpec
from .building import build
from .experiment_schema import ExperimentConfig
from .findings import Finding, Severity
from .layers import LayerEntry
from .model_rules import RuleEffect
from .resolve import Experiment, calibration_of, plain

Sections = dict[str, Any]
_CONFIG = "config."
# What a layer of its own may set; the rest it shares with the whole model.
_OF_A_LAYER = ("precision", "compute")


def to_sections(experiment: Experiment) -> Sections:
    """Everything of `experiment` by section, as JSON types; equal sections of different experiments are equal."""
    hardware = experiment.hardware
    whole = {f.name: plain(getattr(hardware, f.name)) for f in dataclasses.fields(hardware) if f.name not in _APART}
    config = plain(experiment.config)
    return {f"{_CONFIG}{name}": section for name, section in config.items()} | {
        "typed": sorted(experiment.typed),
        "system": None if hardware.system is None else plain(hardware.system),
        "hardware": whole,
        "hardware.layers": _layers(hardware),
        "spec": plain(experiment.spec),
        "effects": [plain(effect) for effect in experiment.effects],
        "findings": [plain(finding) for finding in experiment.findings],
        "layers": [plain(entry) for entry in experiment.layers],
    }


_APART = ("system", "layers")


def _layers(hardware: DeviceConfig) -> list[dict[str, Any]]:
    """Each different configuration of layers once, with the numbers of its layers."""
    return [
        {name: plain(getattr(own, name)) for name in _OF_A_LAYER} | {"layers": layers}
        for own, layers in hardware.own_layers()
    ]


def from_sections(sections: Mapping[str, Any]) -> Experiment:
    """The experiment of `to_sections`. Raises ConfigError where a section is not what this version writes."""
    config = build(ExperimentConfig, {k.removeprefix(_CONFIG): v for k, v in sections.items() if k.startswith(_CONFIG)})
    hardware = _hardware(sections)
    return Experiment(
        config,
        hardware,
        _spec(sections["spec"]),
        calibration_of(config),
        [RuleEffect(**effect) for effect in sections["effects"]],
        [Finding(**finding | {"severity": Severity(finding["severity"])}) for finding in sections["findings"]],
        [LayerEntry(**entry) for entry in sections["layers"]],
        frozenset(sections["typed"]),
    )


def _hardware(sections: Mapping[str, Any]) -> DeviceConfig:
    values = dict(sections["hardware"])
    whole = DeviceConfig(
        **values
        | _own(values)
        | {
            "device_type": DeviceType(values["device_type"]),
            "memory": build(field_types(DeviceConfig)["memory"], values["memory"]),
            "parallelism": build(field_types(DeviceConfig)["parallelism"], values["parallelism"]),
            "system": None if sections["system"] is None else build(DeviceSpec, sections["system"]),
        }
    )
    for entry in sections["hardware.layers"]:
        own = dataclasses.replace(whole, **_own(entry), layers={})
        whole.layers |= dict.fromkeys(entry["layers"], own)
    whole.layers = dict(sorted(whole.layers.items()))
    return whole


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer may have of its own: precision and compute."""
    compute = {group: build(_kind(group), settings) for group, settings in values["compute"].items()}
    return {"precision": build(PrecisionConfig, values["precision"]), "compute": compute}


def _kind(group: str) -> type[ComputeConfig] | type[ComputeOverride]:
    return ComputeConfig if group in ROOT_OP_GROUPS else ComputeOverride


def _spec(values: Mapping[str, Any]) -> ModelSpec:
    known = dict(values)
    kinds = [_made(LayerSpec, kind) for kind in known.pop("kinds", ())]
    pattern, metadata = known.pop("pattern", ()), known.pop("_metadata")
    if not kinds:
        made: ModelSpec = _made(ModelSpec, known | {"_metadata": metadata})
        return made
    for name in (*OF_LAYERS, "num_layers"):
        del known[name]
    return ModelSpec.of_layers([kinds[number] for number in pattern], **metadata, **known)


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass of models.spec, its own dataclasses and tuples made of objects and lists."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        inner = [own for own in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(own)]
        return _made(inner[0], value) if inner else value
    return tuple(value) if isinstance(value, list) else value
