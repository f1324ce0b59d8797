# SPDX-License-Identifier: Apache-2.0
"""Sums over tensor-parallel chips: who multiplies what, and in which order and format the partial products meet.

A matrix that is split by its inputs gives a partial product on every chip, each packed to its output format. Their sum
is a reduce-scatter (every chip ends with the whole sum of its share of the columns) and an all-gather, which copies.
On the way each hop adds what arrives to the chip's own share, in the format that is carried.

The order is assumed, not read from a card: on a ring the first half of a share travels upwards and the second half
downwards and both end at their owner; on a line both ends travel towards the owner, who adds what comes from below and
then what comes from above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..hardware.schema import DataFormat, DeviceConfig
from ..numerics.packer import pack_output
from .ttnn.split import TILE, Split

Add = Callable[[Tensor, Tensor, str], Tensor]

# Op groups whose inputs are split over the chips that share the heads, and over those that share a 2-D mesh's hidden
# size (tt_transformers; backends.ttnn does the same).
OVER_HEADS = ("o", "ff2")
OVER_HIDDEN = ("qkv", "ff1_ff3", "lm_head")


@dataclass(frozen=True)
class TensorParallel:
    """How the matrices of a configuration are split and their products added. One chip splits nothing."""

    heads: int
    hidden: int
    ring: bool
    carried: DataFormat | None
    fused_gather: bool

    @classmethod
    def of(cls, config: DeviceConfig) -> TensorParallel:
        """Raises ConfigError where the mesh forbids the split."""
        if config.parallelism.tensor_parallel_size == 1:
            return ONE_CHIP
        split, system = Split.over(config), config.spec
        one_row = split.hidden == 1
        ring = system.topology == "ring" and split.heads == system.chips
        # On 1-D meshes what the matmul wrote is carried as it is; `ccl` serves 2-D meshes (perf.ops.all_reduce_op).
        carried = None if one_row else config.precision.ccl
        return cls(split.heads, split.hidden, ring, carried, one_row and split.heads == 8)

    def chips(self, op_group: str, outputs: int, phase: str) -> int:
        """Over how many chips the inputs of a matrix with `outputs` columns are split; 1 where its products are whole.

        tt_transformers gathers the heads into wo in decode on eight chips, where the columns allow (perf.ops says
        where); prefill sums.
        """
        if op_group in OVER_HIDDEN:
            return self.hidden
        if op_group not in OVER_HEADS:
            return 1
        gathered = self.fused_gather and op_group == "o" and phase == "decode" and outputs % (TILE * 8 * 8) == 0
        return 1 if gathered else self.heads

    def parts(self, inputs: int, chips: int) -> Iterator[slice]:
        """The inputs of each chip: equal numbers of whole tiles, but for the last chips, which may have fewer."""
        width = -(-inputs // (chips * TILE)) * TILE if inputs % chips else inputs // chips
        for start in range(0, inputs, width):
            yield slice(start, min(start + width, inputs))

    def total(self, products: Sequence[Tensor], out: str, add: Add) -> Tensor:
        """The sum of the chips' products [..., columns], which hold values of the format `out`, in that format."""
        carried = out if self.carried is None else self.carried.value.lower()
        sent = [x if carried == out else pack_output(x, carried, False) for x in products]
        summed = torch.empty_like(sent[0])
        for columns, order in self._routes(len(sent), sent[0].shape[-1]):
            summed[..., columns] = self._along(order, [x[..., columns] for x in sent], carried, add)
        return summed if carried == out else pack_output(summed, out, False)

    def _routes(self, chips: int, columns: int) -> Iterator[tuple[slice, list[list[int]]]]:
        """Columns, and the chains of chips whose sums meet there, the owner's own product last in the first chain."""
        share = -(-columns // (chips * TILE)) * TILE
        for owner in range(chips):
            first, last = min(owner * share, columns), min((owner + 1) * share, columns)
            if first == last:
                continue
            if not self.ring:
                below, above = list(range(owner + 1)), list(range(chips - 1, owner, -1))
                yield slice(first, last), [below, above]
                continue
            middle = first + (last - first) // (2 * TILE) * TILE
            up = [(owner + 1 + hop) % chips for hop in range(chips)]
            down = [(owner - 1 - hop) % chips for hop in range(chips)]
            for half, order in ((slice(first, middle), up), (slice(middle, last), down)):
                if half.start < half.stop:
                    yield half, [order]

    @staticmethod
    def _along(chains: list[list[int]], parts: Sequence[Tensor], carried: str, add: Add) -> Tensor:
        sums = []
        for chain in chains:
            if chain:
                x = parts[chain[0]]
                for chip in chain[1:]:
                    x = add(x, parts[chip], carried)
                sums.append(x)
        return sums[0] if len(sums) == 1 else add(sums[0], sums[1], carried)

    def __str__(self) -> str:
        if self.heads * self.hidden == 1:
            return "one chip"
        chips = f"{self.heads}" if self.hidden == 1 else f"{self.heads} x {self.hidden}"
        carried = "the activations' format" if self.carried is None else str(self.carried)
        return f"sums over {chips} chips, {'ring' if self.ring else 'line'} reduce-scatter, in {carried}"


ONE_CHIP = TensorParallel(1, 1, False, None, False)
