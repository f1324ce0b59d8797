# SPDX-License-Identifier: Apache-2.0
"""The matrix unit bit for bit in vector floating point, for all but extreme exponents.

`exact_integer.py` states what is computed. Here the same bits come from float32 operations that vectorise:

- Products. A partial operand of the unit is an exact float32, and a product of two has at most 12 bits. Let U be the
  weight of the last of these bits in the largest product of a group. Adding a product to M = 1.5 * 2^23 U by one fused
  multiply-add rounds it to a multiple of U, and leaves M plus a whole number of U: eight in a row give the sum of
  eight aligned products, each rounded on its own. The unit rounds ties away from zero; so the parts of in1 are made
  larger by 2^-18 of themselves, which lifts ties, and nothing else, over the edge.
- Exponents. The largest of a group, max(eA + eB), is an int16 sum and maximum. It serves all phases, whose exponents
  differ from it by a constant.
- Dst. floor(x + 1/2) rounds a group, trunc(x +- 1/2) Dst, to the grid of the largest of the three. For a bf16 Dst the
  two roundings of the unit, first to 1 and then to 2^13, are one: floor((floor(x + 1/2) + 2^12) / 2^13) =
  floor(x / 2^13 + 1/2 + 2^-14). All of it stays in float32 there. For an fp32 Dst the sum of the three has up to 30
  bits: it is added in int32, cut in two, and put together in one rounding addition, the lower half enlarged by 2^-30
  of the upper so that ties go away from zero.

Dst is held multiplied by 2^64 (`LIFT`), so that nothing comes near float32's own lower limit. What this cannot do
is left to the integer way, row by row of a panel of columns: a number of exponent above `TOP_A` (in1) or `TOP_B`
(in0), a tile with max(eA) + max(eB) above `TOP_PRODUCT`, or Dst above exponent `TOP_DST` at the start. Lifted groups
then stay below 2^99 and Dst below 2^120: in fp32 it is no more than the sum of all groups (`LONGEST` limits their
number); in bf16 it no longer changes where it exceeds a group by 2^13; Wormhole's sum of -1 gives no more than 2^10
times a group. A tile where exponents of the unit might reach 0 is done by a second form of the step that watches for
it; `_LOW` is where this begins.

Speed: bound by vector instructions. Per 16 products of 16 numbers a phase takes the 16 fused multiply-adds that a
float32 matmul takes as well, 4 to set up the groups and some 25 (fp32 Dst) or 20 (bf16) to add to Dst; the largest
exponents take another 20, once for all phases.
"""

from __future__ import annotations

import numpy as np

from tt_transformers_v2.numerics.compiled import helper, kernel
from tt_transformers_v2.numerics.fidelity import SRC_A, SRC_A_HIGH, SRC_B, SRC_B_HIGH
from tt_transformers_v2.numerics.instructions import (
    add16,
    add32,
    bits_of,
    exponent_field,
    float_of,
    floor32,
    fma,
    from_int,
    shr32,
    sub32,
    to_int,
    trunc32,
)

# One task is ROWS x PANEL numbers of Dst. The parts of in1 of one K tile (32 x 256, high, low, exponents: 80 KiB) stay
# in the second-level cache and serve ROWS rows; half as many columns would fit the first level, but each row then
# starts its loops twice as often, which costs more. Of a narrower panel a multiple of NARROW columns is computed.
PANEL, ROWS, NARROW = 256, 64, 32

LIFT, _LIFT_A, _LIFT_B = 64, 48, 16
TOP_A, TOP_B = 254 - _LIFT_A, 254 - _LIFT_B
TOP_PRODUCT = 220 - LIFT + 127  # of eA + eB
TOP_DST = 180
LONGEST = 1 << 22  # of K in one call, for the bound on Dst above
# From this eA + eB on, the exponent of a group is at least 24 in every phase: neither it nor Dst, which can lose 23
# binary places by cancellation, reaches 0.
_LOW = 24 + 12 + 127
_NOTHING = -15000  # exponent of a zero; two of them stay within int16

_EXPONENT, _SIGN = np.uint32(0x7F800000), np.uint32(0x80000000)
_A, _A_HIGH, _B, _B_HIGH = np.uint32(SRC_A), np.uint32(SRC_A_HIGH), np.uint32(SRC_B), np.uint32(SRC_B_HIGH)
_LIFT_A_BITS, _LIFT_B_BITS, _LIFT_BITS = np.uint32(_LIFT_A << 23), np.uint32(_LIFT_B << 23), np.uint32(LIFT << 23)
_UNLIFT_BITS = np.uint32((1 << 32) - (LIFT << 23))
_OVER_TIES = np.float32(1 + 2.0**-18)
# Added to an exponent field: M = 1.5 * 2^23 U with U = 2^(E - 137). Dead groups get an M that swallows everything.
_MAGIC, _SWALLOW = np.uint32((13 << 23) | 0x400000), np.uint32((230 << 23) | 0x400000)
_ZERO_GROUP = np.uint32(LIFT << 23)
_SMALLEST = np.uint32((LIFT + 1) << 23)
_WIDE_SCALE, _WIDE_BACK = np.uint32(277 << 23), np.uint32((1 << 32) - (23 << 23))
_BF16_SCALE, _BF16_BACK = np.uint32(264 << 23), np.uint32((1 << 32) - (10 << 23))
_HALF, _HALF_LESS = np.uint32(0x3F000000), np.uint32(0x3EFFFFFF)
_HALF_AND = np.float32(0.5 + 2.0**-14)
_TO_BF16, _UPPER = np.uint32(0x8000), np.uint32(0xFFFF0000)
_LOW_SIX, _HIGH_REST = np.uint32(63), np.uint32(0xFFFFFFC0)
_TINY = np.float32(2.0**-30)
_MINUS_ONE = np.uint32(0xFFFFFFFF)
_ZERO, _ZERO_F, _ONE_HALF = np.uint32(0), np.float32(0), np.float32(0.5)


# ---- operands ----


@helper
def _parts_of_a(bits, high, low, exponents):  # type: ignore[no-untyped-def]
    """float32 bits of in1 -> its lifted parts and exponents (lifted as a product is). Returns (min, max) exponent."""
    least, most = np.uint32(255), _ZERO
    for i in range(bits.size):
        v = bits[i]
        e = shr32(np.uint32(v & _EXPONENT), np.uint32(23))
        some = e != _ZERO
        whole = float_of(np.uint32(add32(v, _LIFT_A_BITS) & _A) if some else _ZERO)
        upper = float_of(np.uint32(bits_of(whole) & _A_HIGH))
        high[i] = upper * _OVER_TIES
        low[i] = (whole - upper) * _OVER_TIES
        exponents[i] = np.int16(np.int32(e) + np.int32(LIFT - 127)) if some else np.int16(_NOTHING)
        least = min(least, e if some else np.uint32(255))
        most = max(most, e)
    return least, most


@helper
def _parts_of_b(bits, high, low, exponents):  # type: ignore[no-untyped-def]
    """float32 bits of in0 -> its lifted parts and exponents. Returns (min, max) exponent, leaving zeros out."""
    least, most = np.uint32(255), _ZERO
    for i in range(bits.size):
        v = bits[i]
        e = shr32(np.uint32(v & _EXPONENT), np.uint32(23))
        some = e != _ZERO
        whole = float_of(np.uint32(add32(v, _LIFT_B_BITS) & _B) if some else _ZERO)
        upper = float_of(np.uint32(bits_of(whole) & _B_HIGH))
        high[i] = upper
        low[i] = whole - upper
        exponents[i] = np.int16(e) if some else np.int16(_NOTHING)
        least = min(least, e if some else np.uint32(255))
        most = max(most, e)
    return least, most


@helper
def _largest(exponents, b, out, columns):  # type: ignore[no-untyped-def]
    """Largest exponents of eight products: exponents int16[8 * PANEL] of in1, b int16[8] of in0."""
    w = PANEL
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    nothing = np.int16(LIFT)
    for j in range(columns):
        m0 = max(add16(exponents[j], b0), add16(exponents[w + j], b1))
        m1 = max(add16(exponents[2 * w + j], b2), add16(exponents[3 * w + j], b3))
        m2 = max(add16(exponents[4 * w + j], b4), add16(exponents[5 * w + j], b5))
        m3 = max(add16(exponents[6 * w + j], b6), add16(exponents[7 * w + j], b7))
        out[j] = exponent_field(max(max(max(m0, m1), max(m2, m3)), nothing))


# ---- one step on a row: dst[PANEL] += b[16] times a[16 * PANEL] ----


@helper
def _group(j, w, a, magic, b0, b1, b2, b3, b4, b5, b6, b7):  # type: ignore[no-untyped-def]
    s = fma(b0, a[j], magic)
    s = fma(b1, a[w + j], s)
    s = fma(b2, a[2 * w + j], s)
    s = fma(b3, a[3 * w + j], s)
    s = fma(b4, a[4 * w + j], s)
    s = fma(b5, a[5 * w + j], s)
    s = fma(b6, a[6 * w + j], s)
    return fma(b7, a[7 * w + j], s) - magic


@helper
def _add_wide(g0, g1, d, e, minus_one):  # type: ignore[no-untyped-def]
    """Sum of two groups and an fp32 Dst on the grid of exponent field e."""
    scale = float_of(sub32(_WIDE_SCALE, e))
    t0, t1 = to_int(floor32(fma(g0, scale, _ONE_HALF))), to_int(floor32(fma(g1, scale, _ONE_HALF)))
    half = float_of(np.uint32(np.uint32(bits_of(d) & _SIGN) | _HALF_LESS))
    total = add32(add32(t0, t1), to_int(fma(d, scale, half)))
    total = minus_one if total == _MINUS_ONE else total
    upper = from_int(np.uint32(total & _HIGH_REST))
    lower = from_int(np.uint32(total & _LOW_SIX))
    return (upper + fma(upper, _TINY, lower)) * float_of(add32(e, _WIDE_BACK))


@helper
def _add_bf16(g0, g1, d, e):  # type: ignore[no-untyped-def]
    """Sum of two groups and a bf16 Dst on the grid of exponent field e."""
    scale = float_of(sub32(_BF16_SCALE, e))
    half = float_of(np.uint32(np.uint32(bits_of(d) & _SIGN) | _HALF))
    total = floor32(fma(g0, scale, _HALF_AND)) + floor32(fma(g1, scale, _HALF_AND)) + trunc32(fma(d, scale, half))
    rounded = float_of(np.uint32(add32(bits_of(total), _TO_BF16) & _UPPER))
    return rounded * float_of(add32(e, _BF16_BACK))


@helper
def _wide_at(j, dst, a, first, second, less, minus_one, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15):  # type: ignore[no-untyped-def] # fmt: skip # noqa: E501
    w = PANEL
    x0, x1, d = sub32(first[j], less), sub32(second[j], less), dst[j]
    g0 = _group(j, w, a, float_of(add32(x0, _MAGIC)), b0, b1, b2, b3, b4, b5, b6, b7)
    g1 = _group(j + 8 * w, w, a, float_of(add32(x1, _MAGIC)), b8, b9, b10, b11, b12, b13, b14, b15)
    dst[j] = _add_wide(g0, g1, d, max(max(x0, x1), np.uint32(bits_of(d) & _EXPONENT)), minus_one)


@helper
def _step_wide(dst, b, a, first, second, less, columns, minus_one):  # type: ignore[no-untyped-def]
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    b8, b9, b10, b11, b12, b13, b14, b15 = b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]
    if columns == PANEL:  # a constant number of rounds is a fifth faster
        for j in range(PANEL):
            _wide_at(j, dst, a, first, second, less, minus_one, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)  # fmt: skip # noqa: E501
    else:
        for j in range(columns):
            _wide_at(j, dst, a, first, second, less, minus_one, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)  # fmt: skip # noqa: E501


@helper
def _bf16_at(j, dst, a, first, second, less, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15):  # type: ignore[no-untyped-def] # fmt: skip
    w = PANEL
    x0, x1, d = sub32(first[j], less), sub32(second[j], less), dst[j]
    g0 = _group(j, w, a, float_of(add32(x0, _MAGIC)), b0, b1, b2, b3, b4, b5, b6, b7)
    g1 = _group(j + 8 * w, w, a, float_of(add32(x1, _MAGIC)), b8, b9, b10, b11, b12, b13, b14, b15)
    dst[j] = _add_bf16(g0, g1, d, max(max(x0, x1), np.uint32(bits_of(d) & _EXPONENT)))


@helper
def _step_bf16(dst, b, a, first, second, less, columns):  # type: ignore[no-untyped-def]
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    b8, b9, b10, b11, b12, b13, b14, b15 = b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]
    if columns == PANEL:  # a constant number of rounds is a fifth faster
        for j in range(PANEL):
            _bf16_at(j, dst, a, first, second, less, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)  # fmt: skip # noqa: E501
    else:
        for j in range(columns):
            _bf16_at(j, dst, a, first, second, less, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15)  # fmt: skip # noqa: E501


@helper
def _step_low(dst, b, a, first, second, less, columns, minus_one, wide):  # type: ignore[no-untyped-def]
    """The same where a group's exponent may be 0 or less (it is zero then) and Dst may become too small."""
    w = PANEL
    b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    b8, b9, b10, b11, b12, b13, b14, b15 = b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]
    for j in range(columns):
        x0, x1, d = sub32(first[j], less), sub32(second[j], less), dst[j]
        m0 = float_of(add32(x0, _MAGIC) if x0 > _ZERO_GROUP else _SWALLOW)
        m1 = float_of(add32(x1, _MAGIC) if x1 > _ZERO_GROUP else _SWALLOW)
        g0 = _group(j, w, a, m0, b0, b1, b2, b3, b4, b5, b6, b7)
        g1 = _group(j + 8 * w, w, a, m1, b8, b9, b10, b11, b12, b13, b14, b15)
        e = max(max(x0, x1), np.uint32(bits_of(d) & _EXPONENT))
        v = _add_wide(g0, g1, d, e, minus_one) if wide else _add_bf16(g0, g1, d, e)
        dst[j] = v if np.uint32(bits_of(v) & _EXPONENT) >= _SMALLEST else _ZERO_F


# ---- the whole ----


@helper
def _lift(bits, out):  # type: ignore[no-untyped-def]
    """Dst as float32 bits -> lifted floats, zero where the exponent is 0. Returns whether all of them fit."""
    most = _ZERO
    for i in range(bits.size):
        e = np.uint32(bits[i] & _EXPONENT)
        out[i] = float_of(add32(bits[i], _LIFT_BITS) if e != _ZERO else _ZERO)
        most = max(most, e)
    return most <= np.uint32(TOP_DST << 23)


@helper
def _drop(values, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        v = bits_of(values[i])
        out[i] = add32(v, _UNLIFT_BITS) if np.uint32(v & _EXPONENT) != _ZERO else _ZERO


@kernel
def accumulate(in0, shift0, in1, shift1, index0, index1, dst, left_over, first, last, phases, wide, wormhole, lo, hi):  # type: ignore[no-untyped-def] # fmt: skip
    """Adds the products of in0[..., first:last] to `dst`; tasks lo..hi, see `tasks`.

    Args:
        in0: bits [batches, M, K], to be shifted left by shift0 to give float32 bits; in1 likewise [batches, K, N].
        index0, index1: which batch of in0 and of in1 belongs to each batch of dst.
        dst: float32 bits [batches, M, N], read and written.
        left_over: uint8 [batches, M, panels], written: 1 where dst was left alone, for the integer way.
        first, last: range of K; first is a multiple of 32, the last tile is filled up with zeros.
        phases: 1..4. wide: fp32 Dst. wormhole: with its own way of handling a sum of -1.
    """
    rows, columns = dst.shape[1], dst.shape[2]
    row_tasks, panels = (rows + ROWS - 1) // ROWS, (columns + PANEL - 1) // PANEL
    raw_a, high_a, low_a = np.zeros(32 * PANEL, np.uint32), np.empty(32 * PANEL, np.float32), np.empty(32 * PANEL, np.float32)  # fmt: skip # noqa: E501
    exponents_a, largest = np.empty(32 * PANEL, np.int16), np.empty(4 * PANEL, np.uint32)
    raw_b, high_b, low_b = np.zeros(32, np.uint32), np.empty(32, np.float32), np.empty(32, np.float32)
    exponents_b = np.empty(32, np.int16)
    held, start, fits = np.zeros(ROWS * PANEL, np.float32), np.zeros(PANEL, np.uint32), np.empty(ROWS, np.uint8)
    minus_one = np.uint32((1 << 32) - (1 << 27)) if wormhole else _MINUS_ONE
    up0, up1 = np.uint32(shift0), np.uint32(shift1)
    for task in range(lo, hi):
        batch = task // (row_tasks * panels)
        # Neighbouring tasks share their columns, so the weights stay near while the rows change.
        panel = (task // row_tasks) % panels
        left, right, row, column = index0[batch], index1[batch], task % row_tasks * ROWS, panel * PANEL
        height, width = min(ROWS, rows - row), min(PANEL, columns - column)
        n = (width + NARROW - 1) // NARROW * NARROW
        raw_a[:] = _ZERO
        for r in range(height):
            start[:width] = dst[batch, row + r, column : column + width]
            start[width:] = _ZERO
            fits[r] = np.uint8(_lift(start, held[r * PANEL : (r + 1) * PANEL]))
        for k in range(first, last, 32):
            deep = min(32, last - k)
            for i in range(32):
                line = raw_a[i * PANEL : i * PANEL + width]
                if i < deep:
                    source = in1[right, k + i, column : column + width]
                    for j in range(width):
                        line[j] = np.uint32(np.uint32(source[j]) << up1)
                else:
                    line[:] = _ZERO
            least_a, most_a = _parts_of_a(raw_a, high_a, low_a, exponents_a)
            for r in range(height):
                if fits[r] == 0:
                    continue
                for i in range(32):
                    raw_b[i] = np.uint32(np.uint32(in0[left, row + r, k + i]) << up0) if i < deep else _ZERO
                least_b, most_b = _parts_of_b(raw_b, high_b, low_b, exponents_b)
                if most_a > TOP_A or most_b > TOP_B or most_a + most_b > TOP_PRODUCT:
                    fits[r] = 0
                    continue
                for g in range(4):
                    e = largest[g * PANEL : (g + 1) * PANEL]
                    _largest(exponents_a[8 * g * PANEL : 8 * (g + 1) * PANEL], exponents_b[8 * g : 8 * (g + 1)], e, n)
                d = held[r * PANEL : (r + 1) * PANEL]
                low = least_a + least_b < _LOW
                for phase in range(phases):
                    part, source_b = low_a if phase % 2 else high_a, low_b if phase >= 2 else high_b
                    less = np.uint32((5 * (phase % 2) + 7 * (phase // 2)) << 23)
                    for half in range(2):
                        a, b = part[16 * half * PANEL : 16 * (half + 1) * PANEL], source_b[16 * half : 16 * (half + 1)]
                        e0 = largest[2 * half * PANEL : (2 * half + 1) * PANEL]
                        e1 = largest[(2 * half + 1) * PANEL : (2 * half + 2) * PANEL]
                        if low:
                            _step_low(d, b, a, e0, e1, less, n, minus_one, wide)
                        elif wide:
                            _step_wide(d, b, a, e0, e1, less, n, minus_one)
                        else:
                            _step_bf16(d, b, a, e0, e1, less, n)
        for r in range(height):
            if fits[r]:
                _drop(held[r * PANEL : r * PANEL + width], dst[batch, row + r, column : column + width])
            else:
                left_over[batch, row + r, panel] = 1


def tasks(batches: int, rows: int, columns: int) -> int:
    """How many tasks `accumulate` has for dst [batches, rows, columns]."""
    return batches * -(-rows // ROWS) * -(-columns // PANEL)
