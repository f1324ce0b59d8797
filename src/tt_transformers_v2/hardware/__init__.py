# SPDX-License-Identifier: Apache-2.0
"""What a device and a hardware configuration are. Imports neither torch nor ttnn.

The seed design's entry points are found here too, though they are made of the configuration rooms above: they are
loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from .enums import Arch, DataFormat, DeviceType, MathFidelity, Placement, PrecisionMode
from .schema import ComputeConfig, DeviceConfig, DeviceSpec, MemoryConfig, ParallelismConfig, PrecisionConfig

if TYPE_CHECKING:
    from ..config.auto_config import AutoHardwareConfig
    from ..config.device_presets import DevicePresets
    from ..config.model_rules import ModelHardwareOverrides

__all__ = [
    "Arch",
    "AutoHardwareConfig",
    "ComputeConfig",
    "ConfigError",
    "DataFormat",
    "DeviceConfig",
    "DevicePresets",
    "DeviceSpec",
    "DeviceType",
    "MathFidelity",
    "MemoryConfig",
    "ModelHardwareOverrides",
    "ParallelismConfig",
    "Placement",
    "PrecisionConfig",
    "PrecisionMode",
]

_HOMES = {
    "AutoHardwareConfig": "..config.auto_config",
    "DevicePresets": "..config.device_presets",
    "ModelHardwareOverrides": "..config.model_rules",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
