# SPDX-License-Identifier: Apache-2.0
"""The matrix unit, approximately and fast ("numerics: fast").

Operands are cut exactly as the unit cuts them (`fidelity.py`) and results are packed exactly as the packer does
(`packer.py`); between the two, sums are float32. Per fidelity the phases add up to

    LoFi B_high A_high, HiFi2 B_high A, HiFi3 B_high A + B_low A_high, HiFi4 B A       (B = in0, A = in1)

- fp32 Dst: torch's float32 matmul. Left out: the unit aligns every product to the largest of its group of eight and
  keeps 12 bits of it.
- bf16 Dst: for each 32-deep K tile, for each phase, for each half of the tile, the unit adds two groups of eight
  products to Dst. Groups are rounded to the tenth bit below the leading one of the largest of the three terms, then
  Dst to bf16 (seven bits), half away from zero. Both are done here, in this order. The first must not be left out:
  with three bits below bf16, one sum in eight is a tie, ties go away from zero, and Dst grows (1 to 2 % at K = 1024,
  in the unit as here). Left out: the alignment inside a group, and the direction of a group's own ties. Blocks of K
  that the packer adds in L1 begin with an empty Dst, as in `blocks.py`; at K = 512 they deviate by 3.8e-3 at most.

Deviation from the exact unit (rms of the difference over rms of the exact Dst, Wormhole, bf16 weights, in0 ~ N(0, 1),
in1 ~ N(0, 0.02), M = 32, N = 64), and the share of elements that are equal bit for bit:

    fidelity   fp32 Dst             bf16 Dst
               K = 128   K = 1024   K = 128         K = 1024
    LoFi       3.0e-4    3.1e-4     2.2e-3  0.79    4.2e-3  0.60
    HiFi2      3.0e-4    3.1e-4     2.2e-3  0.78    4.2e-3  0.60
    HiFi3      3.0e-4    3.1e-4     2.3e-3  0.77    4.4e-3  0.59
    HiFi4      3.0e-4    3.1e-4     2.3e-3  0.77    4.4e-3  0.59

For comparison: the exact unit itself is 2.4e-2 away from the true product with bf16 Dst at K = 1024 (HiFi2 to HiFi4).
bfp8 weights give the same figures; bfp4 weights 1.7e-4 with fp32 Dst, up to 4.8e-3 with bf16 Dst. An fp32 Dst
packed to bf16 differs in some 14 % of the elements: by one step of bf16, or more where the sum nearly cancels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from tt_transformers_v2.common.units import TILE
from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.fidelity import SRC_A, SRC_A_HIGH, SRC_B, SRC_B_HIGH, cut, phases_of
from tt_transformers_v2.numerics.formats import as_float32, common_batch
from tt_transformers_v2.numerics.instructions import add32, bits_of, float_of, shr32
from tt_transformers_v2.numerics.packer import check_output, pack_output

# One task of the bf16 Dst kernel is ROWS x COLUMNS of the result: the cut weights of a K tile (32 x 128 float32,
# high and low) fit the first-level cache, and cutting them serves 64 rows.
# Of fewer columns a multiple of NARROW is computed.
COLUMNS, ROWS, NARROW = 128, 64, 32

_EXPONENT, _HIGH_A = np.uint32(0x7F800000), np.uint32(SRC_A_HIGH)
_HALF, _ALMOST_HALF, _UPPER = np.uint32(0x8000), np.uint32(0x7FFF), np.uint32(0xFFFF0000)
# 1.5 * 2^13 times a power of two: adding and subtracting it rounds to the tenth bit below that power.
_TO_TENTH_BIT = np.uint32((13 << 23) | 0x400000)
_LARGEST_GRID = np.uint32(240 << 23)  # beyond 2^113 the sum above would leave float32; such groups are not rounded


@dataclass(frozen=True)
class PreparedIn1:
    """Weights cut once for one fidelity, to be used in many products; made by `prepare_in1`.

    Attributes:
        values: float32 [..., K, N], the part of the weights that all phases together use.
        math_fidelity: what it was cut for.
    """

    values: torch.Tensor
    math_fidelity: str
    _high: list[torch.Tensor] = field(default_factory=list, repr=False, compare=False)

    @property
    def shape(self) -> torch.Size:
        """[..., K, N]."""
        return self.values.shape

    def high(self) -> torch.Tensor:
        """The high parts, float32 [..., K, N]; made on first use and kept."""
        if not self._high:
            self._high.append(cut(self.values, SRC_A_HIGH))
        return self._high[0]


def prepare_in1(in1: torch.Tensor, math_fidelity: str) -> PreparedIn1:
    """Cut the second operand of `matmul`.

    Args:
        in1: float32 or bfloat16 CPU tensor [..., K, N].
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".

    Raises:
        ValueError: another dtype, device or fidelity, or fewer than two dimensions.
    """
    phases = phases_of(math_fidelity)
    if in1.dim() < 2:
        raise ValueError(f"in1 must have shape [..., K, N], not {list(in1.shape)}")
    return PreparedIn1(cut(in1, SRC_A_HIGH if phases == 1 else SRC_A, "in1"), math_fidelity)


def matmul(
    in0: torch.Tensor,
    in1: torch.Tensor | PreparedIn1,
    *,
    math_fidelity: str,
    fp32_dest_acc_en: bool,
    in0_block_w: int | None = None,
    packer_l1_acc: bool = False,
    out: str = "bf16",
) -> torch.Tensor:
    """in0 @ in1 about as the device computes it.

    Args:
        in0: float32 or bfloat16 CPU tensor [..., M, K], the activations (SrcB).
        in1: the weights (SrcA), float32 or bfloat16 [K, N] or [..., K, N] with batch dimensions that broadcast
            against those of in0; or the same prepared by `prepare_in1`. Values in a block format come as float32.
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".
        fp32_dest_acc_en: float32 accumulator; otherwise it is rounded to bf16 after every 16 products.
        in0_block_w, packer_l1_acc: as in `matrix_unit.matmul`, where they count: a bf16 Dst whose partial results the
            packer accumulates starts anew with every block (`blocks.py`). Left out: what packing partial results to a
            block format loses where the packer does not accumulate; None and other cases are one block.
        out: "bf16", "fp32", "bfp8" or "bfp4": what the result is packed to.

    Returns:
        float32 tensor [..., M, N] with the values of the packed result.

    Raises:
        ValueError: an argument of another dtype, device, name or shape; a block that does not divide the tiles of K;
            or in1 prepared for another fidelity.

    torch's float32 matmul precision must be its default, "highest". The deviation from the exact unit is given at
    the top of this file.
    """
    phases = phases_of(math_fidelity)
    check_output(out)
    prepared = in1 if isinstance(in1, PreparedIn1) else prepare_in1(in1, math_fidelity)
    if prepared.math_fidelity != math_fidelity:
        raise ValueError(f"in1 was prepared for {prepared.math_fidelity}, not for {math_fidelity}")
    if in0.dim() < 2:
        raise ValueError(f"in0 must have shape [..., M, K], not {list(in0.shape)}")
    if in0.shape[-1] != prepared.shape[-2]:
        raise ValueError(f"in0 {list(in0.shape)} and in1 {list(prepared.shape)} do not agree in K")
    try:
        common_batch(in0.shape, prepared.shape)
    except ValueError:
        raise ValueError(
            f"the batch dimensions of in0 {list(in0.shape)} and in1 {list(prepared.shape)} do not broadcast"
        ) from None
    tiles = -(-in0.shape[-1] // TILE)
    if in0_block_w is not None and (in0_block_w < 1 or max(tiles, 1) % in0_block_w):
        raise ValueError(f"in0_block_w must divide the {tiles} tiles of K, but {in0_block_w} does not")
    blocks = 1 if in0_block_w is None else tiles // in0_block_w
    in_l1 = packer_l1_acc and blocks > 2
    b = cut(in0, SRC_B_HIGH if phases <= 2 else SRC_B, "in0")
    if fp32_dest_acc_en:
        dst = _fp32_dst(b, prepared, phases)
    else:
        dst = _bf16_dst(b, prepared, phases, TILE * in0_block_w if in_l1 and in0_block_w else 0)
    return pack_output(dst, out, fp32_dest_acc_en)


def _fp32_dst(b: torch.Tensor, prepared: PreparedIn1, phases: int) -> torch.Tensor:
    if phases == 3:
        high = cut(b, SRC_B_HIGH)
        dst = torch.matmul(high, prepared.values)
        dst += torch.matmul(b - high, prepared.high())
    else:
        dst = torch.matmul(b, prepared.values)
    # The unit's exact zero is +0; a sum of products that are all -0 would be -0.
    return dst.add_(0.0)


def _bf16_dst(b: torch.Tensor, prepared: PreparedIn1, phases: int, block: int) -> torch.Tensor:
    """`block`: elements of K after which Dst is added to partial results in L1; 0: never."""
    a = prepared.values
    k, n = a.shape[-2:]
    if a.dim() == 2:
        # One weight for all: the batch is nothing but more rows.
        batch, shape = torch.Size(), (*b.shape[:-1], n)
        b = b.reshape(1, b.shape[:-1].numel(), k)
    else:
        batch = common_batch(b.shape, a.shape)
        shape = (*batch, b.shape[-2], n)
        b = b.expand(*batch, *b.shape[-2:]).reshape(batch.numel(), *b.shape[-2:])
    a = a.expand(*batch, k, n).reshape(batch.numel(), k, n)
    if k % 32:
        # Tiles are filled up with zeros; a zero product changes no sum.
        b = torch.nn.functional.pad(b, (0, -k % 32))
        a = torch.nn.functional.pad(a, (0, 0, 0, -k % 32))
    high = cut(b, SRC_B_HIGH)
    low = b - high if phases > 2 else high
    dst = torch.empty((b.shape[0], b.shape[1], n), dtype=torch.float32)
    arrays = (high.numpy(), low.numpy(), as_float32(a, "in1").numpy(), dst.numpy())
    tasks = dst.shape[0] * -(-dst.shape[1] // ROWS) * -(-n // COLUMNS)
    work = dst.numel() * max(k, 1) // 16
    run_split(lambda lo, hi: _rounded_product(*arrays, phases, block, lo, hi), tasks, work)
    return dst.reshape(shape)


@helper
def _sixteen_at(j, dst, a, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15):  # type: ignore[no-untyped-def]
    w = COLUMNS
    s = b0 * a[j] + b1 * a[w + j] + b2 * a[2 * w + j] + b3 * a[3 * w + j]
    s += b4 * a[4 * w + j] + b5 * a[5 * w + j] + b6 * a[6 * w + j] + b7 * a[7 * w + j]
    t = b8 * a[8 * w + j] + b9 * a[9 * w + j] + b10 * a[10 * w + j] + b11 * a[11 * w + j]
    t += b12 * a[12 * w + j] + b13 * a[13 * w + j] + b14 * a[14 * w + j] + b15 * a[15 * w + j]
    d = dst[j]
    e = max(np.uint32(bits_of(s) & _EXPONENT), np.uint32(bits_of(t) & _EXPONENT))
    e = min(max(e, np.uint32(bits_of(d) & _EXPONENT)), _LARGEST_GRID)
    grid = float_of(add32(e, _TO_TENTH_BIT))
    d += ((s + grid) - grid) + ((t + grid) - grid)
    dst[j] = float_of(np.uint32(add32(bits_of(d), _HALF) & _UPPER))


@helper
def _add_sixteen(dst, b, a, columns):  # type: ignore[no-untyped-def]
    """One step of the unit on a row: dst[:columns] += b[16] times a[16 * COLUMNS], in two groups, then bf16."""
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    b8, b9, b10, b11, b12, b13, b14, b15 = b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]
    if columns == COLUMNS:  # a constant number of rounds is faster
        for j in range(COLUMNS):
            _sixteen_at(j, dst, a, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)
    else:
        for j in range(columns):
            _sixteen_at(j, dst, a, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)


@helper
def _onto_partials(partials, dst):  # type: ignore[no-untyped-def]
    """partials += dst, rounded to the nearest bf16, ties to even; dst = 0."""
    for i in range(dst.size):
        v = bits_of(partials[i] + dst[i])
        odd = np.uint32(shr32(v, np.uint32(16)) & np.uint32(1))
        partials[i] = float_of(np.uint32(add32(v, add32(_ALMOST_HALF, odd)) & _UPPER))
        dst[i] = np.float32(0)


@kernel
def _rounded_product(b_high, b_low, a, out, phases, block, lo, hi):  # type: ignore[no-untyped-def]
    """Tasks lo..hi of out[batch, M, N] = b[batch, M, K] times a[batch, K, N] with a bf16 accumulator.

    Every `block` of K (0: none) but the last one starts from zero and is added to partial results, on which the last
    one goes on.
    """
    rows, depth, columns = b_high.shape[1], a.shape[1], a.shape[2]
    row_tasks, column_tasks = (rows + ROWS - 1) // ROWS, (columns + COLUMNS - 1) // COLUMNS
    # Columns beyond N are computed on zeros and thrown away.
    high, low = np.zeros(32 * COLUMNS, np.float32), np.zeros(32 * COLUMNS, np.float32)
    dst, partials = np.empty(ROWS * COLUMNS, np.float32), np.empty(ROWS * COLUMNS, np.float32)
    for task in range(lo, hi):
        batch = task // (row_tasks * column_tasks)
        # Neighbouring tasks share their columns, so the weights stay near while the rows change.
        first_column = (task // row_tasks) % column_tasks * COLUMNS
        first_row = task % row_tasks * ROWS
        height, width = min(ROWS, rows - first_row), min(COLUMNS, columns - first_column)
        computed = (width + NARROW - 1) // NARROW * NARROW
        dst[:] = np.float32(0)
        partials[:] = np.float32(0)
        high[:] = np.float32(0)
        low[:] = np.float32(0)
        for k in range(0, depth, 32):
            if block > 0 and k > 0 and k % block == 0:
                _onto_partials(partials, dst)
                if k + block >= depth:
                    for i in range(dst.size):
                        dst[i] = partials[i]
            for i in range(32):
                weights = a[batch, k + i, first_column : first_column + width]
                for j in range(width):
                    v = weights[j]
                    h = float_of(np.uint32(bits_of(v) & _HIGH_A))
                    high[i * COLUMNS + j] = h
                    low[i * COLUMNS + j] = v - h
            for phase in range(phases):
                part = low if phase % 2 else high
                source = b_low[batch] if phase >= 2 else b_high[batch]
                for half in range(2):
                    c = k + 16 * half
                    sixteen = part[16 * COLUMNS * half : 16 * COLUMNS * (half + 1)]
                    for r in range(height):
                        row = dst[r * COLUMNS : (r + 1) * COLUMNS]
                        _add_sixteen(row, source[first_row + r, c : c + 16], sixteen, computed)
        for r in range(height):
            for j in range(width):
                out[batch, first_row + r, first_column + j] = dst[r * COLUMNS + j]
