# SPDX-License-Identifier: Apache-2.0
"""Sums of rows in the matrix unit, as ttnn's reductions compute them: a product with a column of ones.

The same bits as `matrix_unit.matmul` with that column, for numbers that are not negative (squares, exponentials). That
kernel computes columns side by side and has only one here; this one computes rows side by side, in the float32
arithmetic that `exact_float.py` explains, simplified by what is known:

- A one has no low part. Its phases (1 and 3) add zeros of a smaller exponent than Dst already has, and change nothing.
- Every sum is positive, so Wormhole's own sum of -1 cannot occur, and nothing cancels.

Numbers of extreme exponents, and negative ones, are left to `matrix_unit.matmul`.
"""

from __future__ import annotations

import numpy as np
import torch

from tt_transformers_v2.numerics.compiled import helper, kernel, run_split
from tt_transformers_v2.numerics.fidelity import SRC_B, SRC_B_HIGH, phases_of
from tt_transformers_v2.numerics.formats import as_float32, bits_array
from tt_transformers_v2.numerics.instructions import (
    add32,
    bits_of,
    float_of,
    floor32,
    fma,
    from_int,
    shr32,
    sub32,
    to_int,
    trunc32,
)
from tt_transformers_v2.numerics.matrix_unit import matmul
from tt_transformers_v2.numerics.packer import pack_output

LANES = 32  # rows side by side

# Exponent fields of what is computed here. Below the first, the exponent of a low phase's group could reach 0; above
# the second, a sum of 2^20 numbers could leave float32.
LOWEST, HIGHEST = 40, 230

_EXPONENT, _UPPER = np.uint32(0x7F800000), np.uint32(0xFFFF0000)
_B, _B_HIGH = np.uint32(SRC_B), np.uint32(SRC_B_HIGH)
_OVER_TIES = np.float32(1 + 2.0**-18)  # the one, as `exact_float.py` takes a number of in1
_MAGIC = np.uint32((13 << 23) | 0x400000)
_WIDE_SCALE, _WIDE_BACK = np.uint32(277 << 23), np.uint32((1 << 32) - (23 << 23))
_BF16_SCALE, _BF16_BACK = np.uint32(264 << 23), np.uint32((1 << 32) - (10 << 23))
_HALF_AND, _ONE_HALF, _HALF_LESS = np.float32(0.5 + 2.0**-14), np.float32(0.5), np.float32(0.49999997)
_TO_BF16, _LOW_SIX, _HIGH_REST = np.uint32(0x8000), np.uint32(63), np.uint32(0xFFFFFFC0)
_TINY, _ZERO, _ZERO_F = np.float32(2.0**-30), np.uint32(0), np.float32(0)
_SEVEN = np.uint32(7 << 23)


def row_sums(x: torch.Tensor, *, math_fidelity: str, fp32_dest_acc_en: bool, out: str = "bf16") -> torch.Tensor:
    """The sums over the last dimension, packed.

    Args:
        x: float32 CPU tensor [..., rows, width], SrcB; read as tf32.
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".
        fp32_dest_acc_en: float32 accumulator; otherwise bf16.
        out: as in `matrix_unit.matmul`, but for "dst".

    Returns:
        float32 tensor [..., rows, 1].

    Raises:
        ValueError: another dtype, device, fidelity or output, or a tensor of fewer than two dimensions.
    """
    phases = phases_of(math_fidelity)
    source = as_float32(x, "x")
    if source.dim() < 2:
        raise ValueError(f"x must have shape [..., rows, width], not {list(x.shape)}")
    rows, width = source.shape[:-1].numel(), source.shape[-1]
    bits, total = bits_array(source).reshape(rows, width), torch.zeros(*source.shape[:-1], 1)
    sums, extreme = total.reshape(-1).numpy(), np.zeros(1, np.uint8)
    wide = bool(fp32_dest_acc_en)
    run_split(
        lambda lo, hi: _sum_rows(bits, sums, extreme, phases > 2, wide, lo, hi), -(-rows // LANES), source.numel()
    )
    if extreme[0]:
        one = torch.ones(width, 1)
        return matmul(source, one, math_fidelity=math_fidelity, fp32_dest_acc_en=wide, out=out, weight_format="fp32")
    return pack_output(total, out, wide)


@helper
def _fill(bits, numbers, row, column):  # type: ignore[no-untyped-def]
    """A tile of 32 columns as numbers [32 * LANES], rows side by side, zeros beyond the end; whether all are usual."""
    usual = True
    for j in range(LANES):
        for k in range(32):
            inside = row + j < bits.shape[0] and column + k < bits.shape[1]
            v = bits[row + j, column + k] if inside else _ZERO
            e = np.uint32(v & _EXPONENT)
            numbers[k * LANES + j] = np.uint32(v & _B) if e != _ZERO else _ZERO
            field = shr32(v, np.uint32(23))  # with the sign, so that a negative number is beyond the highest
            usual &= e == _ZERO or (field >= np.uint32(LOWEST) and field <= np.uint32(HIGHEST))
    return usual


@helper
def _largest(numbers, first, out):  # type: ignore[no-untyped-def]
    """Largest exponent fields of eight numbers of each row."""
    for j in range(LANES):
        e = _ZERO
        for k in range(first, first + 8):
            e = max(e, np.uint32(numbers[k * LANES + j] & _EXPONENT))
        out[j] = e


@helper
def _group(numbers, first, j, magic, low):  # type: ignore[no-untyped-def]
    s = magic
    for k in range(first, first + 8):
        v = numbers[k * LANES + j]
        high = float_of(np.uint32(v & _B_HIGH))
        s = fma(float_of(v) - high if low else high, _OVER_TIES, s)
    return s - magic


@helper
def _step(numbers, first, e0, e1, less, low, wide, dst):  # type: ignore[no-untyped-def]
    """dst[LANES] plus sixteen numbers of each row, from `first` on."""
    for j in range(LANES):
        # A group without a number has exponent 0 and adds nothing, whatever the phase.
        x0 = sub32(e0[j], less) if e0[j] != _ZERO else _ZERO
        x1 = sub32(e1[j], less) if e1[j] != _ZERO else _ZERO
        g0 = _group(numbers, first, j, float_of(add32(x0, _MAGIC)), low)
        g1 = _group(numbers, first + 8, j, float_of(add32(x1, _MAGIC)), low)
        d = dst[j]
        e = max(max(x0, x1), np.uint32(bits_of(d) & _EXPONENT))
        if wide:
            scale = float_of(sub32(_WIDE_SCALE, e))
            t0, t1 = to_int(floor32(fma(g0, scale, _ONE_HALF))), to_int(floor32(fma(g1, scale, _ONE_HALF)))
            total = add32(add32(t0, t1), to_int(fma(d, scale, _HALF_LESS)))
            upper, lower = from_int(np.uint32(total & _HIGH_REST)), from_int(np.uint32(total & _LOW_SIX))
            v = (upper + fma(upper, _TINY, lower)) * float_of(add32(e, _WIDE_BACK))
        else:
            scale = float_of(sub32(_BF16_SCALE, e))
            total = floor32(fma(g0, scale, _HALF_AND)) + floor32(fma(g1, scale, _HALF_AND))
            rounded = np.uint32(add32(bits_of(total + trunc32(fma(d, scale, _ONE_HALF))), _TO_BF16) & _UPPER)
            v = float_of(rounded) * float_of(add32(e, _BF16_BACK))
        dst[j] = v if e != _ZERO else _ZERO_F


@kernel
def _sum_rows(bits, sums, extreme, twice, wide, lo, hi):  # type: ignore[no-untyped-def]
    """Groups lo..hi of LANES rows of float32 bits [rows, width]; `twice`: with the numbers' low parts too."""
    numbers, dst = np.empty(32 * LANES, np.uint32), np.empty(LANES, np.float32)
    e = np.empty((4, LANES), np.uint32)
    for task in range(lo, hi):
        row = task * LANES
        dst[:] = _ZERO_F
        for column in range(0, bits.shape[1], 32):
            if not _fill(bits, numbers, row, column):
                extreme[0] = 1
                return
            for g in range(4):
                _largest(numbers, 8 * g, e[g])
            for half in range(2):
                _step(numbers, 16 * half, e[2 * half], e[2 * half + 1], _ZERO, False, wide, dst)
            if twice:
                for half in range(2):
                    _step(numbers, 16 * half, e[2 * half], e[2 * half + 1], _SEVEN, True, wide, dst)
        for j in range(min(LANES, bits.shape[0] - row)):
            sums[row + j] = dst[j]
