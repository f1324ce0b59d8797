# SPDX-License-Identifier: Apache-2.0
"""The names a configuration is written in: device types, formats, fidelities, placements."""

from __future__ import annotations

import enum
from typing import ClassVar, NamedTuple

from ..common.units import TILE


class Named(str, enum.Enum):
    """An enum whose members equal, print and serialise as their value, which is also their name: OmegaConf knows enum
    members by name."""

    def __str__(self) -> str:
        return str(self.value)

    __repr__ = __str__

    @property
    def other_names(self) -> tuple[str, ...]:
        """What else a user may type for it, in any case."""
        return ()


class Sampling(Named):
    """Where the next token is chosen: on the host from all logits, on the device by top-k, or there by argmax alone."""

    host = "host"
    device = "device"
    device_argmax = "device_argmax"


class Prefill(Named):
    """How a prompt is run: dispatched op by op, from a trace, or from a trace over all users' prompts at once."""

    untraced = "untraced"
    traced = "traced"
    batched = "batched"


class Stack(Named):
    """Who drives the model: tt_transformers' own loop, or a vLLM server around it."""

    tt_transformers = "tt_transformers"
    vllm = "vllm"


class DeviceType(str):
    """A kind of system by the name that Tenstorrent's documents print, and text in every respect.

    Which kinds there are is data: each file of the device group states its own. Those of the seed design have names
    here (`DeviceType.N150`); any other is `DeviceType("P150x8")`. config.device_presets refuses unknown ones.
    """

    __slots__ = ()

    N150: ClassVar[DeviceType]
    N300: ClassVar[DeviceType]
    T3K: ClassVar[DeviceType]
    TG: ClassVar[DeviceType]
    P100: ClassVar[DeviceType]
    P150: ClassVar[DeviceType]
    P300: ClassVar[DeviceType]
    P150x4: ClassVar[DeviceType]

    @property
    def value(self) -> str:
        """The name, as an enum's member would have it."""
        return str(self)

    name = value


for _name in DeviceType.__annotations__:
    setattr(DeviceType, _name, DeviceType(_name))


class DispatchCoreType(Named):
    """ttnn.DispatchCoreType: on which cores dispatch runs, and so how large the compute grid is."""

    WORKER = "WORKER"
    ETH = "ETH"


class PrecisionMode(Named):
    """The preset that a configuration starts from; in `custom`, rules about precision and fidelity change nothing."""

    accuracy = "accuracy"
    performance = "performance"
    custom = "custom"
    # The seed design's names.
    ACCURACY = accuracy
    PERFORMANCE = performance
    CUSTOM = custom


class Arch(Named):
    """Architecture names as ttnn prints them."""

    wormhole_b0 = "wormhole_b0"
    blackhole = "blackhole"


class Topology(Named):
    """How a system's chips are cabled: not at all, one after another, in a circle, or in two dimensions."""

    none = "none"
    line = "line"
    ring = "ring"
    mesh = "mesh"


class MathFidelity(Named):
    """ttnn.MathFidelity; the number of matrix-unit phases is `phases`."""

    LoFi = "LoFi"
    HiFi2 = "HiFi2"
    HiFi3 = "HiFi3"
    HiFi4 = "HiFi4"

    @property
    def phases(self) -> int:
        """How often the matrix unit multiplies a pair of tiles, 1 to 4 times."""
        return {"LoFi": 1, "HiFi2": 2, "HiFi3": 3, "HiFi4": 4}[self.value]


class _Format(NamedTuple):
    ttnn_name: str
    tile_bytes: int
    lowest_fidelity: MathFidelity
    paired_fidelity: MathFidelity


# Bytes of a tile: ttnn's tile formats, shared exponents included. The two fidelities differ for BF16: HiFi2 reads all
# bits of the weights and the high ones of the activations, HiFi4 the low ones of both, too.
_FORMATS = {
    "BFP4": _Format("bfloat4_b", 576, MathFidelity.LoFi, MathFidelity.LoFi),
    "BFP8": _Format("bfloat8_b", 1088, MathFidelity.HiFi2, MathFidelity.HiFi2),
    "BF16": _Format("bfloat16", 2048, MathFidelity.HiFi2, MathFidelity.HiFi4),
}


class DataFormat(Named):
    """Tensor formats as TTTv1 and the seed design name them, narrow ones first."""

    BFP4 = "BFP4"
    BFP8 = "BFP8"
    BF16 = "BF16"

    @property
    def ttnn_name(self) -> str:
        """The name of the ttnn.DataType, such as bfloat8_b."""
        return _FORMATS[self.value].ttnn_name

    @property
    def other_names(self) -> tuple[str, ...]:
        """ttnn's name, and that of tt-metal's DataFormat: bfloat8_b and bfp8_b."""
        return (self.ttnn_name, f"{self.value}_b")

    @property
    def tile_bytes(self) -> int:
        """Bytes of one 32x32 tile."""
        return _FORMATS[self.value].tile_bytes

    @property
    def lowest_fidelity(self) -> MathFidelity:
        """The lowest fidelity that reads every mantissa bit of weights in this format."""
        return _FORMATS[self.value].lowest_fidelity

    @property
    def paired_fidelity(self) -> MathFidelity:
        """The fidelity that tt_transformers pairs with weights in this format (tt-metal PR 17872)."""
        return _FORMATS[self.value].paired_fidelity

    @property
    def bytes_per_element(self) -> float:
        """Bytes of an element, with its part of the shared exponents."""
        return self.tile_bytes / (TILE * TILE)


class Placement(Named):
    """The memory that a tensor lies in: a chip's DRAM, or the L1 of its cores."""

    DRAM = "DRAM"
    L1 = "L1"
