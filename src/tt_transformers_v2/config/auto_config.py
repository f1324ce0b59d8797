# SPDX-License-Identifier: Apache-2.0
"""A hardware configuration from as little as a device name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..common.checked import field_types
from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import DeviceType, PrecisionMode
from ..hardware.op_table import OP_GROUPS
from ..hardware.schema import (
    ComputeConfig,
    DeviceConfig,
    MemoryConfig,
    ParallelismConfig,
    PrecisionConfig,
)
from .building import raise_all
from .device_presets import DevicePresets, build_sections, composed_preset, device_config, precision_mode
from .layers import apply_layers, layer_entry
from .model_rules import ModelShape, apply_rules
from .precedence import leaf_paths, release_finer, set_path

# DeviceConfig fields that `custom` takes as keyword arguments, and where the composed configuration keeps them.
_LIMITS = {
    "max_prefill_chunk_size": "device.max_prefill_chunk_size",
    "max_batch_size": "device.max_batch_size",
    "trace_region_size": "device.trace_region_size",
    "l1_memory_size": "device.l1_memory_size",
    "dram_bandwidth": "device.dram_bandwidth",
}


class AutoHardwareConfig:
    """Automatic hardware configuration with minimal user input."""

    @staticmethod
    def from_device(
        device: str | DeviceType,
        mode: str | PrecisionMode = "performance",
        model_spec: ModelShape | None = None,
    ) -> DeviceConfig:
        """A fresh configuration for `device` ("N150", "T3K", … in any case) in `mode`.

        With `model_spec` the model rules are applied too (70B+ models get BFP4 MLPs, …). Raises ConfigError (a
        ValueError) for unknown names.
        """
        config = DevicePresets.get_config(device, mode)
        if model_spec is None:
            return config
        ruled = apply_rules(config, model_spec, mode=precision_mode(mode))
        num_layers = getattr(model_spec, "num_layers", 0)
        ruled.config.layers = apply_layers(ruled.config, ruled.layers, num_layers)
        return ruled.config

    @staticmethod
    def custom(
        device: str | DeviceType,
        precision: Mapping[str, Any] | None = None,
        compute: Mapping[str, Mapping[str, Any]] | None = None,
        memory: Mapping[str, Any] | None = None,
        parallelism: Mapping[str, Any] | None = None,
        layers: Sequence[Mapping[str, Any]] | None = None,
        num_layers: int | None = None,
        **kwargs: Any,
    ) -> DeviceConfig:
        """The performance preset of `device` with your own values over it.

        `precision` maps tensor groups to formats, `compute` op groups to kernel settings; `memory` and `parallelism`
        set those sections; `layers` are per-layer entries for a model of `num_layers`. Other keyword arguments set the
        limits max_prefill_chunk_size, max_batch_size, trace_region_size (bytes), l1_memory_size (bytes per core),
        dram_bandwidth (GB/s over all chips), or `custom_configs`. A coarse value reaches the finer groups below it.
        Raises ConfigError (a ValueError) listing every unknown key and bad value.
        """
        free_form = kwargs.pop("custom_configs", None)
        sections = {"precision": precision, "compute": compute, "memory": memory, "parallelism": parallelism}
        raise_all(_unknown_keys(sections, kwargs))
        typed = {_LIMITS[name]: value for name, value in kwargs.items()}
        for section, values in sections.items():
            if values:
                typed.update(leaf_paths(section, values))
        composed = composed_preset(device, PrecisionMode.PERFORMANCE)
        for path, value in typed.items():
            set_path(composed, path, value)
        parts = build_sections(composed)
        release_finer(parts, typed)
        config = device_config(parts)
        config.custom_configs = dict(free_form) if free_form else None
        if layers:
            if num_layers is None:
                raise ConfigError("custom: layers requires num_layers, the model's number of layers.")
            entries = [layer_entry(entry, f"layers[{i}]") for i, entry in enumerate(layers)]
            config.layers = apply_layers(config, entries, num_layers)
        return config


def _unknown_keys(sections: Mapping[str, Any], limits: Mapping[str, Any]) -> list[ConfigError]:
    """Every key of `custom` that no configuration has, each with the nearest one."""
    known: dict[str, list[str]] = {
        "precision": list(field_types(PrecisionConfig)),
        "compute": list(OP_GROUPS),
        "memory": list(field_types(MemoryConfig)),
        "parallelism": list(field_types(ParallelismConfig)),
    }
    problems = [
        ConfigError(f"custom: unknown argument {name!r}.", did_you_mean(name, [*sections, *_LIMITS, "custom_configs"]))
        for name in limits
        if name not in _LIMITS
    ]
    for section, values in sections.items():
        if values is not None and not isinstance(values, Mapping):
            problems.append(ConfigError(f"custom: {section} must be a mapping, not {values!r}."))
            continue
        for key, value in (values or {}).items():
            if key not in known[section]:
                problems.append(ConfigError(f"custom: unknown key {section}.{key}.", did_you_mean(key, known[section])))
            elif section == "compute":
                problems += _unknown_kernel_keys(key, value)
    return problems


def _unknown_kernel_keys(group: str, settings: Any) -> list[ConfigError]:
    if not isinstance(settings, Mapping):
        return [ConfigError(f"custom: compute.{group} must be a mapping, not {settings!r}.")]
    fields = field_types(ComputeConfig)
    return [
        ConfigError(f"custom: unknown key compute.{group}.{name}.", did_you_mean(name, fields))
        for name in settings
        if name not in fields
    ]
