# SPDX-License-Identifier: Apache-2.0
"""What a hardware configuration is, and how one is made. Imports neither torch nor ttnn."""

from .auto_config import AutoHardwareConfig
from .device_presets import DevicePresets
from .enums import Arch, DataFormat, DeviceType, MathFidelity, Placement, PrecisionMode
from .errors import ConfigError
from .model_overrides import ModelHardwareOverrides
from .schema import ComputeConfig, DeviceConfig, DeviceSpec, MemoryConfig, ParallelismConfig, PrecisionConfig

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
