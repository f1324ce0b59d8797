# SPDX-License-Identifier: Apache-2.0
"""The values that a weight matrix may take, so that packing keeps every bit and the matrix unit reads all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
    """Columns that share an exponent: those at `order[bounds[i]:bounds[i + 1]]`, at most 32."""

    order: Tensor
    bounds: Tensor


def column_groups(spec: ModelSpec, name: str, columns: int) -> Groups:
    """The groups of a matrix of `columns` outputs by its canonical name.

    They are the blocks of 16 consecutive columns, but for heads of q and k: Hugging Face's order turns i with i + d/2,
    and ttnn's rotary op wants these side by side, so that tt_transformers packs a head in another order. 16 columns and
    the 16 that turn with them share an exponent then, and either order keeps every bit. Heads that 32 does not divide
    have Hugging Face's blocks.
    """
    order, sizes = torch.arange(columns), [BLOCK] * (columns // BLOCK)
    if columns % BLOCK:
        sizes.append(columns % BLOCK)
    if name == "wqkv" and spec.head_dim % (2 * BLOCK) == 0:
        half, turning = spec.head_dim // 2, (spec.num_heads + spec.num_kv_heads) * spec.head_dim
        heads = order[:turning].reshape(-1, 2, half // BLOCK, BLOCK)
        order = torch.cat((heads.transpose(1, 2).reshape(-1), order[turning:]))
        sizes = [2 * BLOCK] * (turning // (2 * BLOCK)) + [BLOCK] * ((columns - turning) // BLOCK)
    return Groups(order, torch.tensor([0, *sizes]).cumsum(0))
