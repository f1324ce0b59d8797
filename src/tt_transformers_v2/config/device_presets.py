# SPDX-License-Identifier: Apache-2.0
"""Presets by device and precision mode, composed from conf/device, conf/precision and conf/tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..common.checked import field_types
from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import DeviceType, PrecisionMode
from ..hardware.schema import DeviceConfig, HardwareSections, PrecisionConfig
from .building import build
from .composition import compose
from .groups import device_types, option


def device_type(device: str | DeviceType) -> DeviceType:
    """The device a name means, in any case; ConfigError (a ValueError) with the nearest one otherwise."""
    if isinstance(device, DeviceType) and device in device_types():
        return device
    types = {file: kind for kind, file in device_types().items()}
    try:
        return DeviceType(types[option("device", str(device))])
    except ConfigError:
        raise ConfigError(f"no device named {device!r}.", did_you_mean(str(device), list(device_types()))) from None


def precision_mode(mode: str | PrecisionMode) -> PrecisionMode:
    """The precision mode a name means; ConfigError (a ValueError) with the nearest one otherwise."""
    for member in PrecisionMode:
        if str(mode).casefold() == member.value:
            return member
    raise ConfigError(
        f"no precision mode named {str(mode)!r}.", did_you_mean(str(mode), [m.value for m in PrecisionMode])
    )


def composed_preset(device: str | DeviceType, mode: str | PrecisionMode) -> dict[str, Any]:
    """The composed configuration of a device in a mode as plain nested dicts, before model rules."""
    stem = device_types()[device_type(device).value]
    return compose((f"device={stem}", f"precision={precision_mode(mode).value}"))


def build_device_config(composed: Mapping[str, Any]) -> DeviceConfig:
    """The hardware part of a composed configuration, checked. Raises ConfigError listing every problem."""
    return device_config(build_sections(composed))


def build_sections(composed: Mapping[str, Any]) -> HardwareSections:
    """The sections that `device_config` takes. Raises ConfigError listing every problem."""
    return build(HardwareSections, {key: composed.get(key) or {} for key in field_types(HardwareSections)})


def device_config(parts: HardwareSections) -> DeviceConfig:
    """The seed's DeviceConfig from its checked sections; limits a device file leaves null come from its chip.

    Raises ConfigError for a device type that no file of the device group states.
    """
    system = parts.device
    if system.device_type not in device_types():
        raise ConfigError(
            f"device.device_type: {str(system.device_type)!r} is not a DeviceType.",
            did_you_mean(system.device_type, device_types()),
        )
    return DeviceConfig(
        device_type=DeviceType(system.device_type),
        precision=parts.precision,
        compute=parts.compute.table(),
        memory=parts.memory,
        parallelism=parts.parallelism,
        max_prefill_chunk_size=system.max_prefill_chunk_size,
        max_batch_size=system.max_batch_size,
        trace_region_size=system.trace_region_size,
        l1_memory_size=system.l1_memory_size or system.chip.l1_memory_size,
        dram_bandwidth=system.dram_bandwidth or system.chip.dram_bandwidth * system.chips,
        system=system,
    )


class _NoPreset(ConfigError, KeyError):
    """No such device, as a mapping says it."""


class _Presets(Mapping[DeviceType, Mapping[PrecisionMode, DeviceConfig]]):
    """The seed's PRESETS table; every look-up composes a fresh configuration."""

    def __getitem__(self, device: DeviceType) -> Mapping[PrecisionMode, DeviceConfig]:
        try:
            device = device_type(device)
        except ConfigError as unknown:
            raise _NoPreset(*unknown.args) from None
        return {mode: DevicePresets.get_config(device, mode) for mode in PrecisionMode}

    def __iter__(self) -> Iterator[DeviceType]:
        return (DeviceType(kind) for kind in device_types())

    def __len__(self) -> int:
        return len(device_types())


class _PresetPrecision:
    """A class attribute that composes a mode's precision settings when it is read."""

    def __init__(self, mode: PrecisionMode) -> None:
        self.mode = mode

    def __get__(self, instance: object, owner: type) -> PrecisionConfig:
        return DevicePresets.get_config(DeviceType.N150, self.mode).precision


class DevicePresets:
    """Device settings based on TTTv1's lessons; the files under conf/ are their source."""

    ACCURACY_PRECISION = _PresetPrecision(PrecisionMode.ACCURACY)
    PERFORMANCE_PRECISION = _PresetPrecision(PrecisionMode.PERFORMANCE)
    PRESETS = _Presets()

    @classmethod
    def get_config(
        cls, device: str | DeviceType, mode: str | PrecisionMode = PrecisionMode.PERFORMANCE
    ) -> DeviceConfig:
        """A fresh configuration for a device in a mode. Raises ConfigError (a ValueError) for unknown names."""
        return build_device_config(composed_preset(device, mode))
