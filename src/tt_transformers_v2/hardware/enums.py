# SPDX-License-Identifier: Apache-2.0
"""The names a configuration is written in: device types, formats, fidelities, placements."""

from __future__ import annotations

import enum


class Named(str, enum.Enum):
    """An enum whose members equal, print and serialise as their value."""

    def __str__(self) -> str:
        return str(self.value)

    __repr__ = __str__


class DeviceType(Named):
    """Systems by the name users type; the value is what Tenstorrent's documents print.

    The members below are the seed design's. Any other `device_type` that a file of the device group states becomes a
    member when it is first asked for, so that adding a device is adding a file.
    """

    N150 = "N150"
    N300 = "N300"
    T3K = "T3K"
    TG = "TG"
    P100 = "P100"
    P150 = "P150"
    P300 = "P300"
    P150x4 = "P150x4"

    @classmethod
    def _missing_(cls, value: object) -> DeviceType | None:
        from .composition import device_types

        if not isinstance(value, str) or value not in device_types():
            return None
        member = str.__new__(cls, str(value))
        member._name_ = member._value_ = str(value)
        cls._member_map_[str(value)] = cls._value2member_map_[str(value)] = member
        cls._member_names_.append(str(value))
        return member


class DispatchCoreType(Named):
    """ttnn.DispatchCoreType: on which cores dispatch runs, and so how large the compute grid is."""

    WORKER = "WORKER"
    ETH = "ETH"


class PrecisionMode(Named):
    ACCURACY = "accuracy"
    PERFORMANCE = "performance"
    CUSTOM = "custom"


class Arch(Named):
    """Architecture names as ttnn prints them."""

    wormhole_b0 = "wormhole_b0"
    blackhole = "blackhole"


class MathFidelity(Named):
    """ttnn.MathFidelity; the number of matrix-unit phases is `phases`."""

    LoFi = "LoFi"
    HiFi2 = "HiFi2"
    HiFi3 = "HiFi3"
    HiFi4 = "HiFi4"

    @property
    def phases(self) -> int:
        return {"LoFi": 1, "HiFi2": 2, "HiFi3": 3, "HiFi4": 4}[self.value]


class DataFormat(Named):
    """Tensor formats as TTTv1 and the seed design name them; `ttnn_name` is ttnn's own."""

    BFP4 = "BFP4"
    BFP8 = "BFP8"
    BF16 = "BF16"

    @property
    def ttnn_name(self) -> str:
        return {"BFP4": "bfloat4_b", "BFP8": "bfloat8_b", "BF16": "bfloat16"}[self.value]

    @property
    def tile_bytes(self) -> int:
        """Bytes of one 32x32 tile (ttnn tile formats: shared exponents included)."""
        return {"BFP4": 576, "BFP8": 1088, "BF16": 2048}[self.value]

    @property
    def bytes_per_element(self) -> float:
        return self.tile_bytes / 1024


class Placement(Named):
    DRAM = "DRAM"
    L1 = "L1"
