# SPDX-License-Identifier: Apache-2.0
"""The values that a weight matrix may take, so that packing keeps every bit and the matrix unit reads all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.emulated.card_heads import CardHeads
from ..hardware.enums import DataFormat, MathFidelity
from ..hardware.op_table import PHASES
from ..hardware.schema import DeviceConfig
from ..models.decoder import matrix_op
from ..models.spec import ModelSpec
from ..numerics import quantize
from ..numerics.fidelity import SRC_A_HIGH, cut
from ..numerics.formats import BLOCK, MAGNITUDE_BITS


@dataclass(frozen=True)
class Grid:
    """A block format, "bfp8" or "bfp4". `high_only`: every phase multiplies by the high part of weights alone (LoFi),
    five significant bits, so that values with more are of no use."""

    fmt: str
    high_only: bool = False

    @property
    def magnitude_bits(self) -> int:
        """Bits of a number beside its sign."""
        return MAGNITUDE_BITS[self.fmt]

    def nearest(self, weight: Tensor) -> Tensor:
        """What the matrix unit reads of `weight`, float32 [in, out], packed as it is; a new tensor."""
        packed = quantize(weight, self.fmt)
        return cut(packed, SRC_A_HIGH) if self.high_only else packed

    def __str__(self) -> str:
        return self.fmt.upper() + (" for LoFi" if self.high_only else "")


def grid_of(hardware: DeviceConfig, name: str, layer: int) -> Grid | None:
    """The grid of a layer's matrix by its canonical name; None where it is not in a block format."""
    own, op = hardware.for_layer(layer), matrix_op(name)
    stored = own.precision.of(op.tensor_group)
    if stored is DataFormat.BF16:
        return None
    fidelities = {own.kernel(op, phase).math_fidelity for phase in PHASES}
    fmt = stored.value.lower()
    # bfp4 has three bits: LoFi reads all of them.
    return Grid(fmt, fidelities == {MathFidelity.LoFi} and MAGNITUDE_BITS[fmt] > 5)


@dataclass(frozen=True)
class Groups:
    """Columns that share an exponent: those at `order[bounds[i]:bounds[i + 1]]`, at most 16."""

    order: Tensor
    bounds: Tensor


def column_groups(spec: ModelSpec, name: str, columns: int) -> Groups:
    """The groups of a matrix of `columns` outputs by its canonical name: blocks of 16 consecutive ones in the order in
    which a card has them."""
    order = _card_columns(spec, name, columns)
    sizes = [BLOCK] * (columns // BLOCK)
    if columns % BLOCK:
        sizes.append(columns % BLOCK)
    return Groups(torch.arange(columns) if order is None else order, torch.tensor([0, *sizes]).cumsum(0))


def packed_nearest(spec: ModelSpec, name: str, weight: Tensor, grid: Grid) -> Tensor:
    """What a card makes of a matrix float32 [in, out] by its canonical name that is packed as it is; a new tensor."""
    order = _card_columns(spec, name, weight.shape[1])
    if order is None:
        return grid.nearest(weight)
    packed = torch.empty_like(weight)
    packed[:, order] = grid.nearest(weight[:, order])
    return packed


def _card_columns(spec: ModelSpec, name: str, columns: int) -> Tensor | None:
    """The columns of a matrix in the order in which a card has them, None where it is theirs: heads of q and k turn
    neighbours there (models.head_order)."""
    return CardHeads.of(spec).columns(torch.arange(columns)) if name == "wqkv" else None
