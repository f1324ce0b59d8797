# SPDX-License-Identifier: Apache-2.0
"""Sums over tensor-parallel chips: who multiplies what, and in which order and format the partial products meet.

A matrix that is split by its inputs gives a partial product on every chip, each packed to its output format. Their sum
is a reduce-scatter (every chip ends with the whole sum of its share of the columns) and an all-gather, which copies.
On the way each hop adds what arrives to the chip's own product, in a bf16 Dst, and packs to the format that is carried.

Known, from the kernels that ttnn 0.81.1 ships (experimental/ccl/reduce_scatter_minimal_async):
- On a line, what comes from below is added to the owner's product, and then what comes from above.
- On a ring of N chips, half of a share's tiles come N/2 hops forwards and N/2 - 1 backwards, the other half the other
  way round. The owner loads the shorter way's sum into Dst and adds the longer way's sum and its own product in one
  step. Tiles of a share are counted row by row, and halves take turns every eight tiles.
Assumed: which chip of the mesh is which in the line or ring (their order in the mesh); that a share which is no whole
number of tiles is padded; that a 2-D mesh reduces and scatters too, where tt_transformers, but for a hidden size of
8192, gathers all products and adds them on every chip.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...common.units import TILE
from ...hardware.enums import DataFormat
from ...hardware.op_table import ModelOp
from ...hardware.schema import DeviceConfig
from ...numerics.packer import pack_output
from ...planning.split import Split
from .matrix_units import MatrixUnit

# Tiles that a worker of the ring's reduce-scatter takes at a time (tile_granularity for packets of at least two tiles).
TILES_AT_A_TIME = 8


@dataclass(frozen=True)
class TensorParallel:
    """How the matrices of a configuration are split and their products added. One chip splits nothing."""

    heads: int
    hidden: int
    ring: bool
    carried: DataFormat | None

    @classmethod
    def of(cls, config: DeviceConfig) -> TensorParallel:
        """Raises ConfigError where the mesh forbids the split."""
        if config.parallelism.tensor_parallel_size == 1:
            return ONE_CHIP
        split, system = Split.over(config), config.spec
        # Two chips are a line whatever joins them; ttnn's ring has halves.
        even = split.heads > 2 and split.heads % 2 == 0
        ring = even and system.topology == "ring" and split.heads == system.chips
        # On 1-D meshes what the matmul wrote is carried as it is; `ccl` serves 2-D meshes (perf.ops.all_reduce_op).
        carried = None if split.hidden == 1 else config.precision.ccl
        return cls(split.heads, split.hidden, ring, carried)

    def chips(self, op: ModelOp) -> int:
        """Over how many chips the inputs of a matrix are split; 1 where its products are whole."""
        return {"heads": self.heads, "hidden": self.hidden}.get(op.inputs_over, 1)

    def own_columns(self, op: ModelOp, columns: int) -> int:
        """A chip's part of the columns of a matrix, which are split over the other axis than its inputs."""
        chips = self.heads * self.hidden // self.chips(op)
        return -(-columns // (chips * TILE)) * TILE

    def parts(self, op: ModelOp, inputs: int, chips: int) -> Iterator[slice]:
        """The inputs of each chip: for wo those of its heads, otherwise equal numbers of whole tiles, but for the last
        chips, which may have fewer or none (those are not listed)."""
        by_heads = op.matrix == "wo" and inputs % chips == 0
        width = inputs // chips if by_heads else -(-inputs // (chips * TILE)) * TILE
        for start in range(0, inputs, width):
            yield slice(start, min(start + width, inputs))

    def total(self, products: Sequence[Tensor], chips: int, out: str, unit: MatrixUnit, *, decode: bool) -> Tensor:
        """The sum of the chips' products [..., tokens, columns], which hold values of the format `out`, in that format.

        Chips beyond the products given have zeros. In decode the rows of a tile are users, so every token is in a
        first row of tiles.
        """
        carried = out if self.carried is None else self.carried.value.lower()
        sent = [x if carried == out else pack_output(x, carried, False) for x in products]
        sent += [torch.zeros_like(sent[0])] * (chips - len(sent))
        summed = torch.empty_like(sent[0])
        tokens, columns = summed.shape[-2:]
        share = -(-columns // (chips * TILE)) * TILE
        for owner, first in enumerate(range(0, columns, share)):
            place = (..., slice(first, min(first + share, columns)))
            order = _Order([x[place] for x in sent], owner, carried, unit)
            if not self.ring:
                summed[place] = order.line()
                continue
            longer_forwards = _longer_forwards(1 if decode else tokens, share)[:, : columns - first]
            summed[place] = order.ring(longer_forwards)
        return summed if carried == out else pack_output(summed, out, False)

    def __str__(self) -> str:
        if self.heads * self.hidden == 1:
            return "one chip"
        chips = f"{self.heads}" if self.hidden == 1 else f"{self.heads} x {self.hidden}"
        carried = "the activations' format" if self.carried is None else str(self.carried)
        return f"sums over {chips} chips, {'ring' if self.ring else 'line'} reduce-scatter, in {carried}"


ONE_CHIP = TensorParallel(1, 1, False, None)


@dataclass(frozen=True)
class _Order:
    """The products of all chips in the columns of one chip, the owner, and the ways in which they are added."""

    parts: Sequence[Tensor]
    owner: int
    carried: str
    unit: MatrixUnit

    def line(self) -> Tensor:
        total = self._chain(range(self.owner + 1))
        if self.owner == len(self.parts) - 1:
            return total
        return self.unit.add(total, self._chain(range(len(self.parts) - 1, self.owner, -1)), self.carried)

    def ring(self, longer_forwards: Tensor) -> Tensor:
        """`longer_forwards`, bool [tokens or 1, columns], says what travels the longer way forwards."""
        if longer_forwards.all():
            return self._both_ways(1)
        if not longer_forwards.any():
            return self._both_ways(-1)
        return torch.where(longer_forwards, self._both_ways(1), self._both_ways(-1))

    def _both_ways(self, step: int) -> Tensor:
        """The longer way in the direction `step`, the shorter one against it."""
        half = len(self.parts) // 2
        longer = self._chain((self.owner - step * hops) % len(self.parts) for hops in range(half, 0, -1))
        shorter = self._chain((self.owner + step * hops) % len(self.parts) for hops in range(half - 1, 0, -1))
        return self.unit.add(longer, self.parts[self.owner], self.carried, onto=shorter)

    def _chain(self, chips: Iterator[int] | range) -> Tensor:
        return functools.reduce(lambda x, y: self.unit.add(x, y, self.carried), (self.parts[chip] for chip in chips))


@functools.lru_cache(maxsize=16)
def _longer_forwards(tokens: int, share: int) -> Tensor:
    """bool [tokens, share]: the tiles of a share that the ring sends N/2 hops forwards; not to be changed."""
    row, column = torch.arange(tokens)[:, None] // TILE, torch.arange(share)[None, :] // TILE
    return (row * (share // TILE) + column) // TILES_AT_A_TIME % 2 == 0
