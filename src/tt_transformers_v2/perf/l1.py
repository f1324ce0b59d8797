# SPDX-License-Identifier: Apache-2.0
"""What lies in the L1 of one core during decode, and what that leaves for circular buffers.

Every tensor is spread in whole tiles over all cores that a program may use (hw.spec.cores), and the fullest core is
counted. tt_transformers often shards over fewer, so a core may hold more. Circular buffers, the working space of an op,
are not counted: their sizes are chosen op by op, and whether they fit what is left shows on a card only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..common.units import TILE
from ..hardware.enums import DataFormat, Placement
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from .footprint import LiveActivations, activation_formats, kv_cache_bytes, live_activations, matrix_bytes


class MemoryLine(NamedTuple):
    """A row of a memory map: `share` is of the whole memory (0 to 1)."""

    name: str
    bytes: int
    share: float


@dataclass(frozen=True)
class L1Map:
    """L1 of the fullest core in a decode step, in bytes.

    size: all of it; usable: what ttnn's allocator may hand out.
    residual, attention, mlp: activations of `tile_rows` x 32 users alive at once, zero where they are placed in DRAM;
        attention and MLP follow one another.
    kv_cache, weights: the core's share where they are placed in L1, else zero.
    """

    size: int
    usable: int
    tile_rows: int
    residual: int
    attention: int
    mlp: int
    kv_cache: int
    weights: int

    @property
    def activations(self) -> int:
        """Bytes at the fullest moment of a layer."""
        return LiveActivations(self.residual, self.attention, self.mlp).most

    @property
    def used(self) -> int:
        """Bytes of all tensors together, without circular buffers."""
        return self.activations + self.kv_cache + self.weights

    @property
    def left(self) -> int:
        """For circular buffers; negative where too much is placed in L1."""
        return self.usable - self.used

    @property
    def over(self) -> bool:
        """Whether the tensors alone need more than the allocator may hand out."""
        return self.left < 0

    def lines(self) -> list[MemoryLine]:
        """The map in order; the bytes add up to the core's L1."""
        rows = {
            "firmware and kernel configuration": self.size - self.usable,
            "activations": self.activations,
            "KV cache": self.kv_cache,
            "weights": self.weights,
            "left for circular buffers": self.left,
        }
        return [MemoryLine(name, size, size / self.size) for name, size in rows.items()]


def l1_map(hw: DeviceConfig, spec: ModelSpec, *, batch: int, context: int) -> L1Map:
    """L1 per core for `batch` users per data-parallel group with `context` tokens in each one's cache.

    The KV cache is perf.footprint.kv_cache_bytes, which the finding kv-cache-over-l1 compares with all of L1: what
    that finds too large is over here.
    """
    chip, cores = hw.spec.chip, hw.spec.cores
    tile_rows = math.ceil(batch / TILE)
    live = _live_on_a_core(hw, spec, tile_rows)
    cache = weights = 0
    if hw.memory.kv_cache_placement is Placement.L1:
        cache = kv_cache_bytes(hw, spec, batch * hw.parallelism.data_parallel_size, context)
    if hw.memory.weights_placement is Placement.L1:
        weights = sum(matrix_bytes(hw, spec, banks=0).values())
    return L1Map(
        size=hw.l1_memory_size,
        # What firmware and kernel configuration take stays the same where l1_memory_size was typed.
        usable=hw.l1_memory_size - (chip.l1_memory_size - chip.l1_usable_size),
        tile_rows=tile_rows,
        residual=live.residual,
        attention=live.attention,
        mlp=live.mlp,
        kv_cache=math.ceil(cache / cores),
        weights=math.ceil(weights / cores),
    )


def _live_on_a_core(hw: DeviceConfig, spec: ModelSpec, tile_rows: int) -> LiveActivations:
    """The most that any layer holds of each part; decode has one user per row."""
    if hw.memory.activations_placement is not Placement.L1:
        return LiveActivations(0, 0, 0)
    cores = hw.spec.cores

    def size(width: int, data: DataFormat) -> int:
        return tile_rows * math.ceil(math.ceil(width / TILE) / cores) * data.tile_bytes

    split = hw.parallelism.tensor_parallel_size
    kinds = activation_formats(hw, spec)
    layers = [live_activations(spec, kind, split, formats, size) for kind, formats in kinds]
    return LiveActivations(*(max(parts) for parts in zip(*layers, strict=True)))
